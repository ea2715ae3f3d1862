#include "csrc/train/session.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "csrc/core/random.h"
#include "csrc/train/invoke.h"

namespace warploom {

namespace {
constexpr float kByteScale = 1.0f / 255.0f;
constexpr size_t kMostPlans = 32;  // training and validation, whole and last batches, take six; the rest is for changing sizes

// WARPLOOM_RECORD=0 makes every call of every step: for debuggers and profilers that want to see them.
bool recording_wanted() {
  const char* text = std::getenv("WARPLOOM_RECORD");
  return !text || std::string(text) != "0";
}

// Whether the input differs from the target.
bool damages(const AugmentImages& a) { return a.noise > 0.0f || a.cutout > 0; }
bool targets_are_inputs(const HostBatch& input, const std::vector<HostBatch>& targets) {
  return targets.empty() && !(input.augmented && damages(input.augmented->how));
}
}  // namespace

Session::Session(const Graph& graph, const std::string& device, const std::string& version, std::vector<LossSpec> losses,
                 const OptimizerSpec& optimizer, Precision precision)
    : graph_(graph),
      target_(open_device(device)),
      table_(target_.table(version)),
      losses_(std::move(losses)),
      parameters_(graph_, table_.weight_layout),
      optimizer_(optimizer),
      precision_(precision),
      records_(recording_wanted() && target_.device->records()) {
  for (const LossSpec& l : losses_) check_loss(l);
}

void Session::initialize(uint64_t seed) {
  allocate();
  parameters_.initialize(seed);
  seed_ = seed;
}

void Session::allocate() {
  parameters_.allocate(target_.device);
  if (!losses_.empty()) optimizer_.allocate(target_.device, table_, parameters_);
  if (loss_) return;
  const LossLayout layout(losses_);
  loss_ = DeviceMemory(target_.device, layout.bytes, "loss");
  target_.device->fill(loss_.data(), 0, loss_.bytes());
  for (size_t i = 0; i < losses_.size(); i++)
    if (!losses_[i].class_weight.empty())
      target_.device->copy_in(loss_.data() + layout.class_weight[i], losses_[i].class_weight.data(),
                              static_cast<int64_t>(losses_[i].class_weight.size() * sizeof(float)));
}

char* Session::address(const Plan& plan, Handle h) {
  const Buffer& b = plan.buffers[static_cast<size_t>(h)];
  switch (b.space) {
    case Space::weights:
      return parameters_.weights() + parameters_.offset_bytes(static_cast<int>(b.offset));
    case Space::weight_gradients:
      return (plan.place > 0 ? place_of(plan.place).gradients.data() : parameters_.gradients()) +
             parameters_.offset_bytes(static_cast<int>(b.offset));
    case Space::loss:
      return loss_.data() + b.offset;
    case Space::steps:
      return optimizer_.steps_on_device();
    default:
      return place_of(plan.place).arena.data() + b.offset;
  }
}

Session::Bound& Session::bound(const PlanRequest& asked) {
  PlanRequest request = asked;
  request.precision = precision_;
  if (!request.training)
    request.seed = 0;
  else if (!request.seed)
    request.seed = seed_;
  const auto found = plans_.find(request);
  if (found != plans_.end()) {
    found->second.used = ++uses_;
    return found->second;
  }
  std::unique_ptr<Plan> plan = make_plan(graph_, table_, losses_, request);
  if (plans_.size() >= kMostPlans * places_.size()) forget_oldest_plan();
  Bound& b = plans_[request];
  b.plan = std::move(plan);
  b.used = ++uses_;
  return b;
}

// Every shard of a batch draws from a stream of its own, whichever process computes it. Where nothing is drawn, all share a plan.
PlanRequest Session::training_request(int batch, bool targets_are_inputs, bool eval_mode, int64_t shard, int place,
                                      bool gradients_early) {
  PlanRequest request{batch, true, true, targets_are_inputs, eval_mode, precision_, seed_, {}, place, gradients_early};
  if (shard == 0) return request;
  const auto& buffers = bound(request).plan->buffers;
  const bool draws = std::any_of(buffers.begin(), buffers.end(), [](const Buffer& b) { return b.space == Space::steps; });
  if (!draws) return request;
  const auto words = Philox(seed_, stream_of("shard")).block(static_cast<uint64_t>(shard));
  request.seed = uint64_t(words[0]) << 32 | words[1];
  return request;
}

void Session::forget_oldest_plan() {
  const auto oldest =
      std::min_element(plans_.begin(), plans_.end(), [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
  target_.device->synchronize();  // a recording of it may be running
  for (auto r = recorded_.begin(); r != recorded_.end();)
    r = r->first.first < oldest->first || oldest->first < r->first.first ? std::next(r) : recorded_.erase(r);
  plans_.erase(oldest);
}

const Plan& Session::plan(const PlanRequest& request) { return *bound(request).plan; }

void Session::prepare(const PlanRequest& request) {
  allocate();
  if (request.place >= 0) open_place(request.place);
  Bound& b = bound(request);
  Place& place = place_of(request.place);
  if (b.plan->arena_bytes > place.arena.bytes() || !place.arena) {
    target_.device->synchronize();
    place.arena = DeviceMemory();  // free first: both may not fit
    place.generation = ++generations_;
    place.arena = DeviceMemory(target_.device, std::max<int64_t>(b.plan->arena_bytes, 256),
                               "the buffers of a batch of " + std::to_string(request.batch));
  }
  if (b.generation == place.generation) return;
  for (auto& step : b.plan->steps) step->bind([&](Handle h) { return address(*b.plan, h); });
  b.generation = place.generation;
}

void Session::run_step(const Step& step) {
  Device& device = *target_.device;
  Context context;
  context.stream = device.stream();
  context.device = &device.info();
  context.workspace = step.workspace_memory;
  if (!device.checks()) return step.run(context);
  const CallScope scope(device, step.node.empty() ? step.entry : step.node + "." + step.entry, step.regions);
  step.run(context);
}

void Session::replay_or_run(const PlanRequest& request, const std::string& purpose, const Data* data,
                            const std::function<void()>& work) {
  if (!records_) return work();
  const RecordedUnder now{place_of(request.place).generation, data ? data->generation : 0, data ? data->rows : 0,
                          optimizer_.clips()};
  Recorded& r = recorded_[{request, purpose}];
  if (r.under != now) {  // the first step is made of calls: drivers load kernels at their first launch
    r = Recorded{now, Recording()};
    return work();
  }
  if (!r.recording && !record(r, work)) return work();
  r.recording.replay();
  replays_++;
}

bool Session::record(Recorded& r, const std::function<void()>& work) {
  try {
    r.recording = Recording(target_.device, work);
    return true;
  } catch (const KernelFault&) {
    throw;
  } catch (const DeviceError& e) {  // nothing has run yet: a driver that cannot record is given the calls themselves
    records_ = false;
    recording_failure_ = e.what();
    return false;
  }
}

void Session::run(const Plan& plan, size_t from, size_t to) {
  for (size_t i = from; i < to; i++) run_step(*plan.steps[i]);
}

const std::vector<Bucket>& Session::cut_buckets(int64_t elements) {
  buckets_ = make_buckets(parameters_, elements);
  for (auto& b : plans_) b.second.final_after.clear();
  return buckets_;
}

void Session::run_steps(const PlanRequest& request, const std::string& purpose, const Data* data,
                        const std::function<void()>& before, bool update, const Ready& ready) {
  Bound& b = bound(request);
  const Plan& p = *b.plan;
  const size_t all = p.steps.size();
  const bool meets = !p.meetings.empty();
  Optimizer::Along along;
  if (p.rests) along.rest = static_cast<const ErrandStep*>(p.steps.back().get());
  if (data) along.cursor = InOut{data->cursor.data(), 4}, along.advance = p.batch;
  const bool takes = update && !ready && !meets && optimizer_.takes(table_, parameters_, along);
  if (ready && b.final_after.empty()) b.final_after = final_after(p, parameters_, buckets_);
  size_t from = 0;
  const auto piece = [&](size_t to) {  // a recording of its own, known by where it begins and ends
    const std::string name = ready || meets ? piece_name(purpose, from, to) : purpose;
    replay_or_run(request, name, data, [&] {
      if (from == 0 && before) before();
      if (from == 0 && data && !takes) advance_cursor(*target_.device, table_, along.cursor, along.advance);
      run(p, from, takes && along.rest ? to - 1 : to);
      if (update && to == all) takes ? optimizer_.step(table_, parameters_, along) : optimizer_.step(table_, parameters_);
    });
    from = to;
  };
  if (meets) {
    piece(p.meetings[0].steps);
    under_way_[p.place] = {request, purpose, 0, from};
    return;
  }
  for (size_t k = 0; ready && k < b.final_after.size();) {
    const size_t to = b.final_after[k];
    while (k < b.final_after.size() && b.final_after[k] == to) k++;
    piece(to);
    ready(k);
  }
  if (from < all) piece(all);
}

void Session::gather(const Plan& plan, Handle to, const Shape& shape, In images, int64_t images_count, DType dtype, In order,
                     int64_t rows, In cursor) {
  GatherImages a;
  a.N = plan.batch;
  const bool map = shape.size() == 3;
  a.C = static_cast<int>(map ? shape[0] : count_of(shape));
  a.H = static_cast<int>(map ? shape[1] : 1), a.W = static_cast<int>(map ? shape[2] : 1);
  a.images_count = images_count;
  a.rows = rows;
  a.dtype = dtype;
  a.scale = dtype == DType::u8 ? kByteScale : 1.0f;
  a.to = table_.layout;
  a.images = images, a.order = order, a.cursor = cursor;
  a.x = Out{address(plan, to), plan.buffers[static_cast<size_t>(to)].bytes};
  invoke(*target_.device, table_, table_.gather_images, "gather_images", a);
}

void Session::augment(const Plan& plan, const Shape& shape, AugmentImages a, In images, int64_t images_count, DType dtype,
                      In order, In numbers, int64_t rows, In cursor, In epoch) {
  const auto place = [&](Handle h) { return Out{address(plan, h), plan.buffers[static_cast<size_t>(h)].bytes}; };
  a.N = plan.batch, a.C = static_cast<int>(shape[0]), a.H = static_cast<int>(shape[1]), a.W = static_cast<int>(shape[2]);
  a.images_count = images_count, a.rows = rows, a.dtype = dtype, a.to = table_.layout;
  if (dtype == DType::u8) a.scale = kByteScale, a.noise *= 255.0f;
  a.images = images, a.order = order, a.numbers = numbers, a.cursor = cursor, a.epoch = epoch;
  a.x = place(plan.inputs[0]);
  if (damages(a) && !plan.targets.empty()) a.y = place(plan.targets[0]);
  invoke(*target_.device, table_, table_.augment_images, "augment_images", a);
}

void Session::check_augmentation(const AugmentImages& how, const Shape& shape, DType dtype) {
  const std::vector<Shape> targets = target_shapes(graph_, graph_.outputs, losses_);
  if (graph_.inputs.size() != 1 || shape.size() != 3 || targets.size() > 1 || (!targets.empty() && targets[0] != shape))
    throw GraphError("augmented images are for a model with one input (C, H, W) and one target of its shape");
  AugmentImages a = how;
  a.N = 1, a.C = static_cast<int>(shape[0]), a.H = static_cast<int>(shape[1]), a.W = static_cast<int>(shape[2]), a.dtype = dtype;
  const std::string why = table_.augment_images.why_not(a);
  if (!why.empty()) throw GraphError(why);
}

const void* Session::stage(const void* host, int64_t bytes, size_t staging) {
  Device& device = *target_.device;
  if (staging_.size() <= staging) staging_.resize(staging + 1);
  if (staging_[staging].bytes() < bytes) {
    device.synchronize();
    staging_[staging] = DeviceMemory();
    staging_[staging] = DeviceMemory(target_.device, bytes, "a batch from the host");
  }
  device.copy_in(staging_[staging].data(), host, bytes);
  return staging_[staging].data();
}

// A batch from outside goes through the same kernel as resident data: staged where it comes from the host, then gathered in the
// order 0, 1, 2, ...
void Session::feed(const Plan& plan, Handle to, const Shape& shape, const HostBatch& batch, size_t staging) {
  Device& device = *target_.device;
  const int64_t bytes = plan.batch * count_of(shape) * dtype_bytes(batch.dtype);
  const void* source = batch.data;
  if (!batch.resident) source = stage(batch.data, bytes, staging);
  const int64_t entries = staging_order_.bytes() / 4 - 1;
  if (entries < plan.batch) {
    device.synchronize();
    std::vector<int32_t> order(static_cast<size_t>(plan.batch) + 1);  // cursor 0, then the order
    std::iota(order.begin() + 1, order.end(), 0);
    staging_order_ = DeviceMemory();
    staging_order_ = DeviceMemory(target_.device, static_cast<int64_t>(order.size()) * 4, "a batch's order");
    device.copy_in(staging_order_.data(), order.data(), staging_order_.bytes());
  }
  gather(plan, to, shape, In{source, bytes}, plan.batch, batch.dtype, In{staging_order_.data() + 4, int64_t(plan.batch) * 4},
         plan.batch, In{staging_order_.data(), 4});
}

// The order in which the device holds what was staged, and zero for the cursor.
void Session::feed_augmented(const Plan& plan, const HostBatch& batch) {
  const Shape& shape = graph_.shape(graph_.inputs[0]);
  check_augmentation(batch.augmented->how, shape, batch.dtype);
  const int64_t rows = plan.batch, bytes = rows * count_of(shape) * dtype_bytes(batch.dtype);
  const void* source = batch.resident ? batch.data : stage(batch.data, bytes, 0);
  std::vector<int32_t> numbers(static_cast<size_t>(2 * rows) + 2);  // the order, the samples' numbers, cursor 0, the epoch
  std::iota(numbers.begin(), numbers.begin() + rows, 0);
  std::copy_n(batch.augmented->numbers, rows, numbers.begin() + rows);
  numbers.back() = batch.augmented->epoch;
  const char* staged = static_cast<const char*>(stage(numbers.data(), 4 * static_cast<int64_t>(numbers.size()), 1));
  augment(plan, shape, batch.augmented->how, In{source, bytes}, rows, batch.dtype, In{staged, 4 * rows},
          In{staged + 4 * rows, 4 * rows}, rows, In{staged + 8 * rows, 4}, In{staged + 8 * rows + 4, 4});
}

void Session::feed_all(const Plan& plan, const std::vector<HostBatch>& inputs, const std::vector<HostBatch>& targets) {
  if (inputs.at(0).augmented) return feed_augmented(plan, inputs[0]);
  for (size_t i = 0; i < inputs.size(); i++) feed(plan, plan.inputs[i], graph_.shape(graph_.inputs[i]), inputs[i], i);
  if (targets.empty()) return;
  const std::vector<Shape> shapes = target_shapes(graph_, graph_.outputs, losses_);
  for (size_t i = 0; i < targets.size(); i++) feed(plan, plan.targets[i], shapes.at(i), targets[i], inputs.size() + i);
}

void Session::train_step(const std::vector<HostBatch>& inputs, const std::vector<HostBatch>& targets, bool update, bool eval_mode,
                         int64_t shard, const Ready& ready, int place) {
  const PlanRequest request =
      training_request(inputs.at(0).batch, targets_are_inputs(inputs.at(0), targets), eval_mode, shard, place, bool(ready));
  prepare(request);
  feed_all(plan(request), inputs, targets);
  run_steps(request, update ? "train" : "gradients", nullptr, {}, update, ready);
}

void Session::evaluate_step(const std::vector<HostBatch>& inputs, const std::vector<HostBatch>& targets) {
  const bool same = targets_are_inputs(inputs.at(0), targets);
  const PlanRequest request{inputs.at(0).batch, false, true, same, false, precision_, 0, {}};
  prepare(request);
  feed_all(plan(request), inputs, targets);
  run_steps(request, "evaluate", nullptr, {}, false, {});
}

const Plan& Session::predict(const std::vector<HostBatch>& inputs, const std::vector<int>& values) {
  const PlanRequest request{inputs.at(0).batch, false, false, false, false, precision_, 0, values};
  prepare(request);
  const Plan& p = plan(request);
  feed_all(p, inputs, {});
  run_steps(request, "predict", nullptr, {}, false, {});
  return p;
}

void Session::output(const Plan& p, size_t i, float* host) {
  const Handle h = p.outputs.at(i);
  target_.device->copy_out(host, address(p, h), p.buffers[static_cast<size_t>(h)].bytes);
}

void Session::copy_output(const Plan& p, size_t i, void* to) {
  const Handle h = p.outputs.at(i);
  target_.device->copy(to, address(p, h), p.buffers[static_cast<size_t>(h)].bytes);
}

void Session::load_data(const std::string& slot, const void* images, DType dtype, const Shape& shape, int64_t count,
                        bool resident, const AugmentImages* augmentation) {
  if (graph_.inputs.size() != 1)
    throw GraphError("data on the device needs a model with one input; feed batches with train_step");
  const Shape& expected = graph_.shape(graph_.inputs[0]);
  if (shape != expected)
    throw GraphError("the images have the shape " + to_text(shape) + ", the model's input is " + to_text(expected));
  if (augmentation) check_augmentation(*augmentation, shape, dtype);
  const int64_t bytes = count * count_of(shape) * dtype_bytes(dtype);
  Data d;
  if (augmentation) d.augmentation = *augmentation;
  d.dtype = dtype, d.shape = shape, d.count = count;
  target_.device->synchronize();
  data_.erase(slot);
  d.images = DeviceMemory(target_.device, std::max<int64_t>(bytes, 1), "the " + slot + " images");
  d.cursor = DeviceMemory(target_.device, 8, "the position in the " + slot + " images");
  if (resident) {
    target_.device->copy(d.images.data(), images, bytes);
    target_.device->synchronize();
  } else {
    target_.device->copy_in(d.images.data(), images, bytes);
  }
  d.generation = ++data_generation_;
  data_[slot] = std::move(d);
}

void Session::drop_data(const std::string& slot) {
  target_.device->synchronize();
  data_.erase(slot);
}

void Session::begin_epoch(const std::string& slot, const int32_t* order, int64_t rows, int32_t epoch) {
  const auto found = data_.find(slot);
  if (found == data_.end()) throw GraphError("no data in slot '" + slot + "'; call load_data first");
  Data& d = found->second;
  for (int64_t i = 0; i < rows; i++)
    if (order[i] < 0 || order[i] >= d.count)
      throw GraphError("the order names image " + std::to_string(order[i]) + ", there are " + std::to_string(d.count));
  if (d.order.bytes() < 4 * rows) {
    target_.device->synchronize();
    d.order = DeviceMemory();
    d.order = DeviceMemory(target_.device, 4 * rows, "the order of the " + slot + " images");
    d.generation = ++data_generation_;
  }
  target_.device->copy_in(d.order.data(), order, 4 * rows);
  const int32_t begin[2] = {0, epoch};
  target_.device->copy_in(d.cursor.data(), begin, sizeof begin);
  d.rows = rows;
  d.position = 0;
}

void Session::run_next(const std::string& slot, int batch, bool training, bool update, int64_t shard, const Ready& ready,
                       int place) {
  const auto found = data_.find(slot);
  if (found == data_.end()) throw GraphError("no data in slot '" + slot + "'; call load_data first");
  Data& d = found->second;
  if (batch < 1 || d.position + batch > d.rows)
    throw GraphError("a batch of " + std::to_string(batch) + " does not fit: " + std::to_string(d.rows - d.position) +
                     " images of the epoch are left");
  const bool same = !d.augmentation || !damages(*d.augmentation);
  const PlanRequest request = training ? training_request(batch, same, false, shard, place, bool(ready))
                                       : PlanRequest{batch, false, true, same, false, precision_, 0, {}};
  prepare(request);
  const Plan& p = plan(request);
  const auto take = [&] {
    const In images{d.images.data(), d.count * count_of(d.shape) * dtype_bytes(d.dtype)}, order{d.order.data(), 4 * d.rows};
    const In cursor{d.cursor.data(), 4}, epoch{d.cursor.data() + 4, 4};
    if (d.augmentation)
      augment(p, d.shape, *d.augmentation, images, d.count, d.dtype, order, order, d.rows, cursor, epoch);
    else
      gather(p, p.inputs[0], d.shape, images, d.count, d.dtype, order, d.rows, cursor);
  };
  run_steps(request, (training && !update ? "gradients of next of " : "next of ") + slot, &d, take, training && update, ready);
  d.position += batch;
}

std::vector<double> Session::last_losses() {
  allocate();
  std::vector<float> values(losses_.size());
  if (!values.empty())
    target_.device->copy_out(values.data(), loss_.data() + LossLayout(losses_).value.at(0),
                             static_cast<int64_t>(values.size() * sizeof(float)));
  return {values.begin(), values.end()};
}

double Session::last_loss() {
  const std::vector<double> values = last_losses();
  return std::accumulate(values.begin(), values.end(), 0.0);
}

std::pair<double, int64_t> Session::take_mean_loss() {
  allocate();
  double total[2];
  target_.device->copy_out(total, loss_.data(), sizeof total);
  target_.device->fill(loss_.data(), 0, sizeof total);
  const double samples = total[1] / static_cast<double>(std::max<size_t>(losses_.size(), 1));  // every loss counts its samples
  return {samples > 0 ? total[0] / samples : 0.0, static_cast<int64_t>(samples + 0.5)};
}

std::map<std::string, int64_t> Session::memory(PlanRequest request, int places) {
  if (places > 0) request.place = 0;
  const Plan& p = plan(request);
  const int64_t arenas = std::max(places, 1);
  Plan::Peak peak = p.peak();
  for (int64_t& bytes : peak.bytes) bytes *= arenas;
  std::map<std::string, int64_t> m;
  int64_t alive = 0;
  for (int c = 0; c < static_cast<int>(Category::persistent); c++) {
    m[name_of(static_cast<Category>(c))] = peak.bytes[c];
    alive += peak.bytes[c];
  }
  m["fragmentation"] = arenas * p.arena_bytes - alive;
  m["weights"] = parameters_.bytes();
  m["weight_gradients"] = request.training ? arenas * parameters_.trainable_bytes() : 0;
  m["optimizer_state"] = request.training ? optimizer_.state_bytes(parameters_) : 0;
  const int64_t fixed = m["weights"] + m["weight_gradients"] + m["optimizer_state"];
  m["total"] = fixed + arenas * p.arena_bytes;
  m["total_without_reuse"] = fixed + arenas * p.arena_bytes_without_reuse;
  m["data"] = 0;  // resident data sets, on top of the total
  for (const auto& d : data_) m["data"] += d.second.images.bytes() + d.second.order.bytes();
  return m;
}

std::vector<double> Session::profile(const PlanRequest& request, int repeat) {
  prepare(request);
  const Plan& p = plan(request);
  Device& device = *target_.device;
  if (!p.inputs.empty()) device.fill(address(p, p.inputs[0]), 0x3c, p.buffers[static_cast<size_t>(p.inputs[0])].bytes);
  std::vector<std::vector<double>> times(p.steps.size());
  for (int r = -1; r < repeat; r++) {
    for (size_t i = 0; i < p.steps.size(); i++) {
      device.mark(0);
      run_step(*p.steps[i]);
      device.mark(1);
      device.synchronize();
      if (r >= 0) times[i].push_back(device.elapsed_ms(0, 1));
    }
  }
  std::vector<double> medians;
  for (auto& t : times) {
    std::sort(t.begin(), t.end());
    medians.push_back(t.empty() ? 0.0 : t[t.size() / 2]);
  }
  return medians;
}

}  // namespace warploom
