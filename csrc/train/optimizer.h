// optimizer.h - the update of all trainable parameters: one fused pass over the flat buffers.
//
// Hyper-parameters and the number of the step live on the device, so that a change of the learning rate needs no new plan.
// What an optimizer is stands in kernels/ops/<name>/optimizer.cpp, registered by a static line; nothing else lists them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "csrc/graph/errands.h"
#include "csrc/train/invoke.h"
#include "csrc/train/parameters.h"

namespace warploom {

struct OptimizerSpec {
  std::string kind = "sgd";
  // What the kind has, OptimizerDef::defaults(); max_norm (0: no clipping); ema, the decay of the weights' average (0: none).
  std::map<std::string, double> hyper;
};

// One update, as an OptimizerDef is given it: run() fills in what all update entries have.
class UpdateCall {
 public:
  Device& device;
  const OpTable& table;
  const std::map<std::string, double>& hyper_values;
  int64_t count;
  In hyper, scale, g;
  In step;  // i32[1]: the number of this step, from 1
  InOut w, workspace;
  std::vector<InOut> states;  // in the order of OptimizerDef::states(); empty where it is not kept

  bool flag(const char* name) const { return hyper_values.at(name) != 0.0; }
  template <class Args>
  void run(const Entry<Args>& entry, const char* name, Args a) {
    a.count = count;
    a.hyper = hyper, a.scale = scale;
    a.g = g;
    a.w = w;
    const int64_t need = entry.workspace_bytes ? entry.workspace_bytes(a) : 0;
    invoke(device, table, entry, name, a, need > 0 ? InOut{workspace.data, need} : InOut{});
  }
};

// What the engine knows about an optimizer.
class OptimizerDef {
 public:
  using Hyper = std::map<std::string, double>;
  virtual ~OptimizerDef() = default;
  virtual const char* name() const = 0;
  virtual Hyper defaults() const = 0;                                          // every hyper-parameter but max_norm and ema
  virtual std::vector<std::string> order() const = 0;                          // of those in the device's array
  virtual bool hyper_in_float() const { return false; }                        // the array's numbers are f32, not f64
  virtual std::vector<std::string> states() const = 0;                         // buffers as large as the parameters
  virtual bool keeps(const std::string&, const Hyper&) const { return true; }  // this state, with these hyper-parameters
  virtual bool fixed(const std::string&) const { return false; }               // the hyper-parameter, while training
  virtual void check(const Hyper&) const {}                                    // throws GraphError
  virtual int64_t workspace_bytes(const OpTable& table, int64_t count) const = 0;
  virtual void update(UpdateCall& call) const = 0;
  // Whether SGD's entry is all that it does: errands can move the parameters then, with the gradients that they sum.
  virtual bool is_sgd() const { return false; }

 protected:
  template <class Args>
  static int64_t workspace_of(const Entry<Args>& entry, int64_t count) {
    Args a;
    a.count = count;
    return entry.workspace_bytes && count > 0 ? entry.workspace_bytes(a) : 0;
  }
};

const OptimizerDef& find_optimizer(const std::string& kind);  // throws GraphError naming the optimizers there are
void register_optimizer(const OptimizerDef* optimizer);

struct OptimizerRegistration {
  explicit OptimizerRegistration(const OptimizerDef* optimizer) { register_optimizer(optimizer); }
};
#define WL_REGISTER_OPTIMIZER(Class)   \
  static const Class Class##_instance; \
  static const ::warploom::OptimizerRegistration Class##_registration(&Class##_instance);

class Optimizer {
 public:
  explicit Optimizer(const OptimizerSpec& spec);  // throws GraphError for an unknown kind or hyper-parameter
  // Of several workers that share the work, this one keeps the states of one part of the flat buffers and updates that part alone
  // (ZeRO stage 1: Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054). Before allocate().
  void keep_part(int rank, int size);
  bool shared() const { return size_ > 1; }
  int64_t first(const Parameters& p) const { return bound(p, rank_); }  // of the part, in elements; 0 without keep_part()
  int64_t count(const Parameters& p) const { return bound(p, rank_ + 1) - first(p); }
  // Names of the state buffers, each as large as the trainable parameters, or the part. With ema the last is kAverage, the average of
  // the weights; whoever shows the average as the weights keeps the weights there meanwhile.
  static constexpr const char* kAverage = "ema";
  const std::vector<std::string>& states() const { return state_names_; }
  int64_t state_bytes(const Parameters& p) const { return 4 * count(p) * static_cast<int64_t>(state_names_.size()); }
  void allocate(const std::shared_ptr<Device>& device, const OpTable& table, const Parameters& parameters);
  void set_hyper(const std::string& name, double value);
  // What an update's launch does along: the last step of a plan (Plan::rests), or none; data's cursor goes on by so many rows.
  struct Along {
    const ErrandStep* rest = nullptr;
    InOut cursor;
    int advance = 0;
  };
  bool takes(const OpTable& table, const Parameters& parameters, const Along& along) const;
  void step(const OpTable& table, Parameters& parameters);
  void step(const OpTable& table, Parameters& parameters, const Along& along);  // if it takes that
  char* state(size_t i) const { return states_.at(i).data(); }
  int32_t steps() const;  // taken so far; waits
  void set_steps(int32_t steps);
  char* steps_on_device() const { return control_.data(); }  // i32: taken so far
  bool clips() const { return hyper("max_norm") > 0.0; }
  bool averages() const { return hyper("ema") > 0.0; }
  double last_norm() const;  // of the gradient before clipping, at the last step; 0 without clipping; waits

 private:
  double hyper(const char* name) const { return spec_.hyper.at(name); }
  int64_t bound(const Parameters& p, int rank) const;
  void check_part(const OptimizerDef::Hyper& hyper) const;
  std::vector<std::string> kept(const OptimizerDef::Hyper& hyper) const;  // names of the states that these ask for
  void upload();
  std::vector<Errand> errands(const Parameters& parameters, const Along& along) const;
  void average(const OpTable& table, Parameters& parameters);
  OptimizerSpec spec_;
  const OptimizerDef& def_;
  std::vector<std::string> state_names_;
  std::shared_ptr<Device> device_;
  // hyper_: what the update entry takes. control_: i32 step, f32 max_norm, f32 norm and scale, f64 ema, 256 bytes apart.
  DeviceMemory hyper_, control_, workspace_;
  std::vector<DeviceMemory> states_;
  int rank_ = 0, size_ = 1;
};

}  // namespace warploom
