#include "csrc/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "csrc/train/invoke.h"

namespace warploom {

namespace {

struct Kind {
  std::vector<std::string> order;  // of the hyper-parameters in the device's array
  std::map<std::string, double> defaults;
  std::vector<std::string> states;
  std::set<std::string> fixed;  // once training has begun
};

const std::map<std::string, Kind>& optimizer_kinds() {
  static const std::map<std::string, double> adam = {{"lr", 1e-3},  {"beta1", 0.9},        {"beta2", 0.999},
                                                     {"eps", 1e-8}, {"weight_decay", 0.0}, {"max_norm", 0.0}};
  static const std::map<std::string, Kind> k = {
      {"sgd",
       {{"lr", "momentum", "weight_decay"},
        {{"lr", 1e-3}, {"momentum", 0.0}, {"weight_decay", 0.0}, {"nesterov", 0.0}, {"max_norm", 0.0}},
        {"velocity"},
        {"nesterov"}}},
      {"adam", {{"lr", "beta1", "beta2", "eps", "weight_decay"}, adam, {"m", "v"}, {}}},
      {"adamw", {{"lr", "beta1", "beta2", "eps", "weight_decay"}, adam, {"m", "v"}, {}}},
      {"rmsprop",
       {{"lr", "alpha", "eps", "momentum", "weight_decay", "lr_keep"},
        {{"lr", 1e-2},
         {"alpha", 0.99},
         {"eps", 1e-8},
         {"momentum", 0.0},
         {"weight_decay", 0.0},
         {"lr_keep", 1.0},
         {"max_norm", 0.0}},
        {"square", "velocity"},
        {}}},
      {"adabelief",
       {{"lr", "beta1", "beta2", "eps", "weight_decay", "lr_keep"},
        {{"lr", 1e-3},
         {"beta1", 0.9},
         {"beta2", 0.999},
         {"eps", 1e-8},
         {"weight_decay", 0.0},
         {"lr_keep", 1.0},
         {"bias_correction", 1.0},
         {"max_norm", 0.0}},
        {"m", "s"},
        {"bias_correction"}}},
  };
  return k;
}

constexpr int64_t kApart = 256;  // bytes between the fields of control_, so that each is a buffer of its own

}  // namespace

Optimizer::Optimizer(const OptimizerSpec& spec) : spec_(spec) {
  const auto kind = optimizer_kinds().find(spec_.kind);
  if (kind == optimizer_kinds().end()) {
    std::string known;
    for (const auto& k : optimizer_kinds()) known += (known.empty() ? "" : ", ") + k.first;
    throw GraphError("unknown optimizer '" + spec_.kind + "'; there are " + known);
  }
  const auto given = spec_.hyper;
  spec_.hyper = kind->second.defaults;
  for (const auto& [name, value] : given) set_hyper(name, value);
  for (const auto& name : kind->second.states)
    if (name != "velocity" || hyper("momentum") != 0.0) state_names_.push_back(name);
  if (spec_.kind == "sgd" && hyper("nesterov") != 0.0 && state_names_.empty())
    throw GraphError("nesterov needs a momentum above 0");
}

void Optimizer::set_hyper(const std::string& name, double value) {
  if (!spec_.hyper.count(name)) {
    std::string known;
    for (const auto& h : spec_.hyper) known += (known.empty() ? "" : ", ") + h.first;
    throw GraphError(spec_.kind + " has no hyper-parameter '" + name + "'; it has " + known);
  }
  if (!std::isfinite(value)) throw GraphError("hyper-parameter '" + name + "' must be finite");
  if (device_ && name == "momentum" && (value != 0.0) != (spec_.hyper[name] != 0.0))
    throw GraphError("momentum cannot be switched on or off while training; compile the model again");
  if (device_ && optimizer_kinds().at(spec_.kind).fixed.count(name) && value != spec_.hyper[name])
    throw GraphError(name + " cannot be changed while training");
  if (name == "max_norm" && value < 0.0) throw GraphError("max_norm must not be negative");
  spec_.hyper[name] = value;
  if (device_) upload();
}

void Optimizer::upload() {
  const auto& order = optimizer_kinds().at(spec_.kind).order;
  std::vector<double> wide;
  for (const auto& name : order) wide.push_back(spec_.hyper[name]);
  if (spec_.kind == "sgd") {
    const std::vector<float> values(wide.begin(), wide.end());
    device_->copy_in(hyper_.data(), values.data(), static_cast<int64_t>(values.size() * sizeof(float)));
  } else {
    device_->copy_in(hyper_.data(), wide.data(), static_cast<int64_t>(wide.size() * sizeof(double)));
  }
  const float max_norm = static_cast<float>(hyper("max_norm"));
  device_->copy_in(control_.data() + kApart, &max_norm, sizeof max_norm);
}

void Optimizer::allocate(const std::shared_ptr<Device>& device, const OpTable& table, const Parameters& parameters) {
  if (device_) return;
  const int64_t fields = static_cast<int64_t>(optimizer_kinds().at(spec_.kind).order.size());
  DeviceMemory hyper(device, fields * (spec_.kind == "sgd" ? 4 : 8), "optimizer hyper-parameters");
  DeviceMemory control(device, 3 * kApart, "optimizer step");
  device->fill(control.data(), 0, control.bytes());
  std::vector<DeviceMemory> states;
  for (const auto& name : state_names_) {
    states.emplace_back(device, std::max<int64_t>(parameters.trainable_bytes(), 4), "optimizer " + name);
    device->fill(states.back().data(), 0, states.back().bytes());
  }
  int64_t workspace = 0;
  auto ask = [&](const auto& entry, auto args) {
    args.count = parameters.trainable_count();
    if (entry.workspace_bytes && args.count > 0) workspace = std::max(workspace, entry.workspace_bytes(args));
  };
  ask(table.gradient_norm, GradientNorm());
  ask(table.sgd_update, SgdUpdate());
  ask(table.adam_update, AdamUpdate());
  ask(table.rmsprop_update, RmspropUpdate());
  ask(table.adabelief_update, AdabeliefUpdate());
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
  const In g{parameters.gradients(), bytes}, hyper_in{hyper_.data(), hyper_.bytes()}, step_in{control_.data(), 4};
  const InOut w{parameters.weights(), bytes};
  auto state = [&](size_t i) { return i < states_.size() ? InOut{states_[i].data(), bytes} : InOut{}; };
  auto run = [&](const auto& entry, const char* name, auto& args) {
    const int64_t need = entry.workspace_bytes ? entry.workspace_bytes(args) : 0;
    invoke(*device_, table, entry, name, args, need > 0 ? InOut{workspace_.data(), need} : InOut{});
  };
  AdvanceCursor advance;
  advance.step = 1;
  advance.cursor = InOut{control_.data(), 4};
  run(table.advance_cursor, "advance_cursor", advance);
  In scale;
  if (clips()) {
    GradientNorm a;
    a.count = count;
    a.max_norm = In{control_.data() + kApart, 4};
    a.g = g;
    a.out = Out{control_.data() + 2 * kApart, 8};
    run(table.gradient_norm, "gradient_norm", a);
    scale = In{control_.data() + 2 * kApart + 4, 4};
  }
  auto common = [&](auto& a) {
    a.count = count;
    a.hyper = hyper_in;
    a.scale = scale;
    a.g = g;
    a.w = w;
  };
  if (spec_.kind == "sgd") {
    SgdUpdate a;
    common(a);
    a.nesterov = hyper("nesterov") != 0.0;
    a.velocity = state(0);
    run(table.sgd_update, "sgd_update", a);
  } else if (spec_.kind == "rmsprop") {
    RmspropUpdate a;
    common(a);
    a.step = step_in;
    a.square = state(0), a.velocity = state(1);
    run(table.rmsprop_update, "rmsprop_update", a);
  } else if (spec_.kind == "adabelief") {
    AdabeliefUpdate a;
    common(a);
    a.bias_correction = hyper("bias_correction") != 0.0;
    a.step = step_in;
    a.m = state(0), a.s = state(1);
    run(table.adabelief_update, "adabelief_update", a);
  } else {
    AdamUpdate a;
    common(a);
    a.decoupled = spec_.kind == "adamw";
    a.step = step_in;
    a.m = state(0), a.v = state(1);
    run(table.adam_update, "adam_update", a);
  }
}

}  // namespace warploom
