#include "csrc/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "csrc/core/names.h"
namespace warploom {

namespace {

std::map<std::string, const OptimizerDef*>& optimizer_defs() {
  static auto* map = new std::map<std::string, const OptimizerDef*>();
  return *map;
}

constexpr int64_t kPartGrid =
    64;  // elements: a part begins where vectors of every width do, so its updates have the bits of the whole
int64_t aligned_bytes(int64_t bytes) { return (bytes + 4 * kPartGrid - 1) / (4 * kPartGrid) * (4 * kPartGrid); }
constexpr int64_t kApart = 256;  // bytes between the fields of control_, so that each is a buffer of its own

}  // namespace

void register_optimizer(const OptimizerDef* optimizer) { optimizer_defs()[optimizer->name()] = optimizer; }

const OptimizerDef& find_optimizer(const std::string& kind) {
  const auto found = optimizer_defs().find(kind);
  if (found == optimizer_defs().end())
    throw GraphError("unknown optimizer '" + kind + "'; there are " + listed(optimizer_defs()));
  return *found->second;
}

Optimizer::Optimizer(const OptimizerSpec& spec) : spec_(spec), def_(find_optimizer(spec.kind)) {
  spec_.hyper = def_.defaults();
  spec_.hyper["max_norm"] = spec_.hyper["ema"] = 0.0;
  for (const auto& [name, value] : spec.hyper) set_hyper(name, value);
  state_names_ = kept(spec_.hyper);
  def_.check(spec_.hyper);
}

void Optimizer::keep_part(int rank, int size) {
  if (device_) throw GraphError("an optimizer is shared before its states are allocated");
  if (size < 1 || rank < 0 || rank >= size)
    throw GraphError("there is no part " + std::to_string(rank) + " of " + std::to_string(size));
  rank_ = rank, size_ = size;
  check_part(spec_.hyper);
}

int64_t Optimizer::bound(const Parameters& p, int rank) const {
  const int64_t all = p.trainable_count();
  return rank == size_ ? all : all * rank / size_ / kPartGrid * kPartGrid;
}

void Optimizer::check_part(const OptimizerDef::Hyper& hyper) const {
  const auto keep = hyper.find("lr_keep");  // drawn by an element's place in the call
  if (size_ > 1 && keep != hyper.end() && keep->second < 1.0)
    throw GraphError(
        "an optimizer whose state is shared among workers cannot drop learning rates: leave out lr_keep, or do not share");
}

std::vector<std::string> Optimizer::kept(const OptimizerDef::Hyper& hyper) const {
  std::vector<std::string> names;
  for (const auto& name : def_.states())
    if (def_.keeps(name, hyper)) names.push_back(name);
  if (hyper.at("ema") > 0.0) names.push_back(kAverage);
  return names;
}

void Optimizer::set_hyper(const std::string& name, double value) {
  if (!spec_.hyper.count(name))
    throw GraphError(spec_.kind + " has no hyper-parameter '" + name + "'; it has " + listed(spec_.hyper));
  if (!std::isfinite(value)) throw GraphError("hyper-parameter '" + name + "' must be finite");
  auto changed = spec_.hyper;
  changed[name] = value;
  if (device_ && kept(changed) != state_names_)
    throw GraphError(name + " cannot be switched on or off while training; compile the model again");
  if (device_ && def_.fixed(name) && value != spec_.hyper[name]) throw GraphError(name + " cannot be changed while training");
  check_part(changed);
  if (name == "max_norm" && value < 0.0) throw GraphError("max_norm must not be negative");
  if (name == "ema" && !(value >= 0.0 && value < 1.0)) throw GraphError("ema must be 0 or a decay below 1");
  spec_.hyper = std::move(changed);
  if (device_) upload();
}

void Optimizer::upload() {
  std::vector<double> wide;
  for (const auto& name : def_.order()) wide.push_back(spec_.hyper.at(name));
  if (def_.hyper_in_float()) {
    const std::vector<float> values(wide.begin(), wide.end());
    device_->copy_in(hyper_.data(), values.data(), static_cast<int64_t>(values.size() * sizeof(float)));
  } else {
    device_->copy_in(hyper_.data(), wide.data(), static_cast<int64_t>(wide.size() * sizeof(double)));
  }
  const float max_norm = static_cast<float>(hyper("max_norm"));
  device_->copy_in(control_.data() + kApart, &max_norm, sizeof max_norm);
  const double decay = hyper("ema");
  device_->copy_in(control_.data() + 3 * kApart, &decay, sizeof decay);
}

void Optimizer::allocate(const std::shared_ptr<Device>& device, const OpTable& table, const Parameters& parameters) {
  if (device_) return;
  const int64_t fields = static_cast<int64_t>(def_.order().size()), count = parameters.trainable_count();
  DeviceMemory hyper(device, fields * (def_.hyper_in_float() ? 4 : 8), "optimizer hyper-parameters");
  DeviceMemory control(device, 4 * kApart, "optimizer step");
  device->fill(control.data(), 0, control.bytes());
  std::vector<DeviceMemory> states;
  for (const auto& name : state_names_) {
    states.emplace_back(device, std::max<int64_t>(4 * this->count(parameters), 4), "optimizer " + name);
    device->fill(states.back().data(), 0, states.back().bytes());
  }
  GradientNorm norm;
  norm.count = count;
  int64_t workspace = def_.workspace_bytes(table, count);
  if (table.gradient_norm.workspace_bytes && count > 0)
    workspace = std::max(workspace, table.gradient_norm.workspace_bytes(norm));
  if (workspace > 0) workspace_ = DeviceMemory(device, workspace, "optimizer workspace");
  hyper_ = std::move(hyper);
  control_ = std::move(control);
  states_ = std::move(states);
  device_ = device;
  upload();
}

int32_t Optimizer::steps() const {
  int32_t n = 0;
  if (device_) device_->copy_out(&n, control_.data(), sizeof n);
  return n;
}

void Optimizer::set_steps(int32_t steps) { device_->copy_in(control_.data(), &steps, sizeof steps); }

double Optimizer::last_norm() const {
  float norm = 0.0f;
  if (device_) device_->copy_out(&norm, control_.data() + 2 * kApart, sizeof norm);
  return norm;
}

void Optimizer::step(const OpTable& table, Parameters& parameters) {
  const int64_t count = parameters.trainable_count(), bytes = parameters.trainable_bytes();
  if (count == 0) return;
  advance_cursor(*device_, table, InOut{control_.data(), 4}, 1);
  const In g{parameters.gradients(), bytes};
  const InOut workspace{workspace_.data(), workspace_.bytes()};
  In scale;
  if (clips()) {
    GradientNorm a;
    a.count = count;
    a.max_norm = In{control_.data() + kApart, 4};
    a.g = g;
    a.out = Out{control_.data() + 2 * kApart, 8};
    const int64_t need = table.gradient_norm.workspace_bytes ? table.gradient_norm.workspace_bytes(a) : 0;
    invoke(*device_, table, table.gradient_norm, "gradient_norm", a, need > 0 ? InOut{workspace.data, need} : InOut{});
    scale = In{control_.data() + 2 * kApart + 4, 4};
  }
  const int64_t first = 4 * this->first(parameters), part = this->count(parameters);  // bytes, elements
  if (part == 0) return;
  std::vector<InOut> states;
  size_t next = 0;
  for (const auto& name : def_.states()) {
    const bool there = next < state_names_.size() && state_names_[next] == name;
    states.push_back(there ? InOut{states_[next].data(), 4 * part} : InOut{});
    next += there;
  }
  UpdateCall call{*device_,
                  table,
                  spec_.hyper,
                  part,
                  In{hyper_.data(), hyper_.bytes()},
                  scale,
                  In{parameters.gradients() + first, 4 * part},
                  In{control_.data(), 4},
                  InOut{parameters.weights() + first, 4 * part},
                  workspace,
                  std::move(states)};
  def_.update(call);
  average(table, parameters);
}

void Optimizer::average(const OpTable& table, Parameters& parameters) {
  if (!averages()) return;
  const int64_t first = 4 * this->first(parameters), part = count(parameters);
  EmaUpdate average;
  average.count = part;
  average.hyper = In{control_.data() + 3 * kApart, 8};
  average.step = In{control_.data(), 4};
  average.w = In{parameters.weights() + first, 4 * part};
  average.average = InOut{states_.back().data(), 4 * part};
  invoke(*device_, table, table.ema_update, "ema_update", average);
}

std::vector<Errand> Optimizer::errands(const Parameters& p, const Along& along) const {
  std::vector<Errand> list;
  if (along.rest) list = along.rest->bound;
  std::vector<std::pair<int64_t, int64_t>> summed;  // of the gradients, in bytes, with the gaps behind them
  for (const Errand& e : list) {
    const int64_t begin = static_cast<const char*>(e.to.data) - p.gradients();
    if (begin >= 0 && begin < p.trainable_bytes()) summed.push_back({begin, aligned_bytes(begin + e.to.bytes)});
  }
  std::sort(summed.begin(), summed.end());
  summed.push_back({p.trainable_bytes(), 0});
  int64_t at = 0;
  for (const auto& [begin, end] : summed) {
    if (begin > at) {
      Errand e;
      e.kind = ErrandKind::add_runs, e.runs = 1;
      e.from = In{p.gradients() + at, begin - at}, e.to = Out{p.gradients() + at, begin - at};
      list.push_back(e);
    }
    at = end;
  }
  const auto advance = [&](void* counter, int by) {
    Errand e;
    e.kind = ErrandKind::advance, e.n = by, e.to = Out{counter, 4};
    list.push_back(e);
  };
  advance(control_.data(), 1);
  if (along.cursor) advance(along.cursor.data, along.advance);
  return list;
}

bool Optimizer::takes(const OpTable& table, const Parameters& parameters, const Along& along) const {
  return def_.is_sgd() && table.run_errands && errands_wanted() && !clips() && !shared() && parameters.trainable_count() > 0 &&
         errands(parameters, along).size() <= static_cast<size_t>(kMostErrands);
}

void Optimizer::step(const OpTable& table, Parameters& parameters, const Along& along) {
  SgdUpdate a;
  a.count = parameters.trainable_count();
  a.nesterov = hyper("nesterov") != 0.0;
  a.hyper = In{hyper_.data(), hyper_.bytes()};
  a.g = In{parameters.gradients(), parameters.trainable_bytes()};
  a.w = InOut{parameters.weights(), parameters.trainable_bytes()};
  if (!states_.empty() && state_names_[0] != kAverage) a.velocity = InOut{states_[0].data(), parameters.trainable_bytes()};
  invoke_errands(*device_, table, "sgd_update", errands(parameters, along), a);
  average(table, parameters);
}

}  // namespace warploom
