// optimizer.h - the update of all trainable parameters: one fused pass over the flat buffers.
//
// Hyper-parameters and the number of the step live on the device, so that a change of the learning rate needs no new plan.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "csrc/train/parameters.h"

namespace warploom {

struct OptimizerSpec {
  std::string kind = "sgd";
  // sgd: lr, momentum, weight_decay, nesterov. adam, adamw: lr, beta1, beta2, eps, weight_decay. rmsprop: lr, alpha, eps, momentum,
  // weight_decay, lr_keep. adabelief: lr, beta1, beta2, eps, weight_decay, lr_keep, bias_correction. All: max_norm (0: no clipping).
  std::map<std::string, double> hyper;
};

class Optimizer {
 public:
  explicit Optimizer(const OptimizerSpec& spec);  // throws GraphError for an unknown kind or hyper-parameter
  // Names of the state buffers, each as large as the trainable parameters.
  const std::vector<std::string>& states() const { return state_names_; }
  int64_t state_bytes(const Parameters& p) const { return p.trainable_bytes() * static_cast<int64_t>(state_names_.size()); }
  void allocate(const std::shared_ptr<Device>& device, const OpTable& table, const Parameters& parameters);
  void set_hyper(const std::string& name, double value);
  void step(const OpTable& table, Parameters& parameters);
  char* state(size_t i) const { return states_.at(i).data(); }
  int32_t steps() const;  // taken so far; waits
  void set_steps(int32_t steps);
  bool clips() const { return hyper("max_norm") > 0.0; }
  double last_norm() const;  // of the gradient before clipping, at the last step; 0 without clipping; waits

 private:
  double hyper(const char* name) const { return spec_.hyper.at(name); }
  void upload();
  OptimizerSpec spec_;
  std::vector<std::string> state_names_;
  std::shared_ptr<Device> device_;
  // hyper_: what the update entry takes. control_: i32 step, f32 max_norm, f32 norm, f32 scale, 256 bytes apart.
  DeviceMemory hyper_, control_, workspace_;
  std::vector<DeviceMemory> states_;
};

}  // namespace warploom
