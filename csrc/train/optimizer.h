// optimizer.h - the update of all trainable parameters: one fused pass over the flat buffers.
//
// Hyper-parameters live on the device, so that a change of the learning rate needs no new plan.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "csrc/train/parameters.h"

namespace warploom {

struct OptimizerSpec {
  std::string kind = "sgd";
  std::map<std::string, double> hyper;  // sgd: lr, momentum, weight_decay, nesterov
};

class Optimizer {
 public:
  explicit Optimizer(const OptimizerSpec& spec);  // throws GraphError for an unknown kind or hyper-parameter
  // Names of the state buffers, each as large as the trainable parameters.
  const std::vector<std::string>& states() const { return state_names_; }
  int64_t state_bytes(const Parameters& p) const { return p.trainable_bytes() * static_cast<int64_t>(state_names_.size()); }
  void allocate(const std::shared_ptr<Device>& device, const Parameters& parameters);
  void set_hyper(const std::string& name, double value);
  void step(const OpTable& table, Parameters& parameters);
  char* state(size_t i) const { return states_.at(i).data(); }

 private:
  void upload();
  OptimizerSpec spec_;
  std::vector<std::string> state_names_;
  std::shared_ptr<Device> device_;
  DeviceMemory hyper_;
  std::vector<DeviceMemory> states_;
};

}  // namespace warploom
