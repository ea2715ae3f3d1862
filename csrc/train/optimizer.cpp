#include "csrc/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "csrc/train/invoke.h"

namespace warploom {

namespace {
const std::map<std::string, double>& sgd_defaults() {
  static const std::map<std::string, double> d = {{"lr", 1e-3}, {"momentum", 0.0}, {"weight_decay", 0.0}, {"nesterov", 0.0}};
  return d;
}
}  // namespace

Optimizer::Optimizer(const OptimizerSpec& spec) : spec_(spec) {
  if (spec_.kind != "sgd") throw GraphError("unknown optimizer '" + spec_.kind + "'; there is sgd");
  const auto given = spec_.hyper;
  spec_.hyper = sgd_defaults();
  for (const auto& [name, value] : given) set_hyper(name, value);
  if (spec_.hyper["momentum"] != 0.0) state_names_ = {"velocity"};
  if (spec_.hyper["nesterov"] != 0.0 && state_names_.empty()) throw GraphError("nesterov needs a momentum above 0");
}

void Optimizer::set_hyper(const std::string& name, double value) {
  if (!spec_.hyper.count(name)) {
    std::string known;
    for (const auto& h : spec_.hyper) known += (known.empty() ? "" : ", ") + h.first;
    throw GraphError(spec_.kind + " has no hyper-parameter '" + name + "'; it has " + known);
  }
  if (!std::isfinite(value)) throw GraphError("hyper-parameter '" + name + "' must be finite");
  if (device_ && name == "momentum" && (value != 0.0) != !state_names_.empty())
    throw GraphError("momentum cannot be switched on or off while training; compile the model again");
  if (device_ && name == "nesterov" && value != spec_.hyper[name]) throw GraphError("nesterov cannot be changed while training");
  spec_.hyper[name] = value;
  if (device_) upload();
}

void Optimizer::upload() {
  const float values[3] = {static_cast<float>(spec_.hyper["lr"]), static_cast<float>(spec_.hyper["momentum"]),
                           static_cast<float>(spec_.hyper["weight_decay"])};
  device_->copy_in(hyper_.data(), values, sizeof values);
}

void Optimizer::allocate(const std::shared_ptr<Device>& device, const Parameters& parameters) {
  if (device_) return;
  DeviceMemory hyper(device, 3 * sizeof(float), "optimizer hyper-parameters");
  std::vector<DeviceMemory> states;
  for (const auto& name : state_names_) {
    states.emplace_back(device, std::max<int64_t>(parameters.trainable_bytes(), 4), "optimizer " + name);
    device->fill(states.back().data(), 0, states.back().bytes());
  }
  hyper_ = std::move(hyper);
  states_ = std::move(states);
  device_ = device;
  upload();
}

void Optimizer::step(const OpTable& table, Parameters& parameters) {
  SgdUpdate a;
  a.count = parameters.trainable_count();
  if (a.count == 0) return;
  a.nesterov = spec_.hyper["nesterov"] != 0.0;
  a.hyper = In{hyper_.data(), hyper_.bytes()};
  a.g = In{parameters.gradients(), parameters.trainable_bytes()};
  a.w = InOut{parameters.weights(), parameters.trainable_bytes()};
  if (!states_.empty()) a.velocity = InOut{states_[0].data(), parameters.trainable_bytes()};
  invoke(*device_, table, table.sgd_update, "sgd_update", a);
}

}  // namespace warploom
