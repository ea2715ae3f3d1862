// parameters.h - the parameters of a graph on a device: one flat buffer of weights, one of gradients, trainable ones first.
//
// Public arrays have PyTorch's shapes; on the device a rank-4 (or rank-2) weight stands in the version's weight layout.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "csrc/core/device_memory.h"
#include "csrc/graph/graph.h"

namespace warploom {

class Parameters {
 public:
  Parameters(const Graph& graph, WeightLayout layout);

  int64_t bytes() const { return 4 * count_; }
  int64_t trainable_count() const { return trainable_count_; }  // elements at the front that the optimizer updates, gaps included
  int64_t trainable_bytes() const { return 4 * trainable_count_; }
  int64_t offset_bytes(int parameter) const { return 4 * offsets_.at(static_cast<size_t>(parameter)); }
  int find(const std::string& name) const;  // throws GraphError

  void allocate(const std::shared_ptr<Device>& device);  // weights and gradients, zeroed; once
  bool allocated() const { return static_cast<bool>(weights_); }
  char* weights() const { return weights_.data(); }
  char* gradients() const { return gradients_.data(); }

  void initialize(uint64_t seed);  // as each parameter's init says; same seed, same numbers on every device
  std::vector<float> get(int parameter,
                         const char* from) const;  // from: weights(), gradients() or a state buffer of the same shape
  void set(int parameter, const float* values, char* to) const;

 private:
  std::vector<float> permuted(int parameter, const float* values, bool to_device) const;

  std::vector<Parameter> list_;
  WeightLayout layout_;
  std::vector<int64_t> offsets_;                  // elements
  std::unordered_map<std::string, int> numbers_;  // by name
  int64_t count_ = 0, trainable_count_ = 0;
  std::shared_ptr<Device> device_;
  DeviceMemory weights_, gradients_;
};

}  // namespace warploom
