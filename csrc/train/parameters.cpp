#include "csrc/train/parameters.h"

#include <algorithm>
#include <cmath>

#include "csrc/core/random.h"

namespace warploom {

namespace {
// Gaps between parameters stay zero, so that one flat pass may update them along with the rest.
constexpr int64_t kAlignElements = 64;
}  // namespace

Parameters::Parameters(const Graph& graph, WeightLayout layout)
    : list_(graph.parameters), layout_(layout), offsets_(list_.size()) {
  for (const bool trainable : {true, false}) {
    for (size_t i = 0; i < list_.size(); i++) {
      if (list_[i].trainable != trainable) continue;
      offsets_[i] = count_;
      count_ += (count_of(list_[i].shape) + kAlignElements - 1) / kAlignElements * kAlignElements;
      (Checked(count_) * 4 * 8)
          .bytes("what the parameters and the optimizer's state of this network take");  // of 8 kinds at most
      numbers_.emplace(list_[i].name, static_cast<int>(i));
    }
    if (trainable) trainable_count_ = count_;
  }
}

int Parameters::find(const std::string& name) const {
  const auto found = numbers_.find(name);
  if (found != numbers_.end()) return found->second;
  throw GraphError("the model has no parameter '" + name + "'");
}

void Parameters::allocate(const std::shared_ptr<Device>& device) {
  if (allocated()) return;
  device_ = device;
  DeviceMemory weights(device, std::max<int64_t>(bytes(), 4), "weights"),
      gradients(device, std::max<int64_t>(trainable_bytes(), 4), "weight gradients");
  device->fill(weights.data(), 0, weights.bytes());
  device->fill(gradients.data(), 0, gradients.bytes());
  weights_ = std::move(weights);
  gradients_ = std::move(gradients);
}

void Parameters::initialize(uint64_t seed) {
  for (size_t i = 0; i < list_.size(); i++) {
    const Parameter& p = list_[i];
    const Philox random(seed, stream_of(p.name));
    std::vector<float> values(static_cast<size_t>(count_of(p.shape)));
    double bound = 0.0;
    const double fan_in = static_cast<double>(std::max<int64_t>(p.fan_in, 1)),
                 fan_out = static_cast<double>(std::max<int64_t>(p.fan_out, 1));
    if (p.init == "he_normal") {
      const double sigma = p.gain * std::sqrt(2.0 / fan_in);
      for (size_t k = 0; k < values.size(); k++) values[k] = static_cast<float>(sigma * random.normal(k));
    } else if (p.init == "ones") {
      std::fill(values.begin(), values.end(), 1.0f);
    } else if (p.init == "he_uniform") {
      bound = p.gain * std::sqrt(6.0 / fan_in);
    } else if (p.init == "glorot_uniform") {
      bound = p.gain * std::sqrt(6.0 / (fan_in + fan_out));
    } else if (p.init == "uniform_fan_in") {  // PyTorch's default for biases
      bound = p.gain / std::sqrt(fan_in);
    } else if (p.init != "zeros") {
      throw GraphError("parameter '" + p.name + "': unknown init '" + p.init +
                       "'; there are zeros, ones, he_normal, he_uniform, glorot_uniform, uniform_fan_in");
    }
    if (bound > 0.0)
      for (size_t k = 0; k < values.size(); k++) values[k] = static_cast<float>(bound * (2.0 * random.uniform(k) - 1.0));
    set(static_cast<int>(i), values.data(), weights());
  }
}

std::vector<float> Parameters::permuted(int parameter, const float* values, bool to_device) const {
  const Shape& s = list_[static_cast<size_t>(parameter)].shape;
  std::vector<float> out(static_cast<size_t>(count_of(s)));
  if (s.size() < 2 || layout_ == WeightLayout::oihw) {
    std::copy(values, values + out.size(), out.begin());
    return out;
  }
  const int64_t O = s[0], I = s[1], H = s.size() > 2 ? s[2] : 1, W = s.size() > 3 ? s[3] : 1;
  for (int64_t o = 0; o < O; o++)
    for (int64_t i = 0; i < I; i++)
      for (int64_t h = 0; h < H; h++)
        for (int64_t w = 0; w < W; w++) {
          const size_t host = static_cast<size_t>(((o * I + i) * H + h) * W + w);
          const size_t device =
              static_cast<size_t>(layout_ == WeightLayout::ohwi ? ((o * H + h) * W + w) * I + i : ((h * W + w) * I + i) * O + o);
          if (to_device)
            out[device] = values[host];
          else
            out[host] = values[device];
        }
  return out;
}

std::vector<float> Parameters::get(int parameter, const char* from) const {
  std::vector<float> raw(static_cast<size_t>(count_of(list_[static_cast<size_t>(parameter)].shape)));
  device_->copy_out(raw.data(), from + offset_bytes(parameter), static_cast<int64_t>(raw.size() * sizeof(float)));
  return permuted(parameter, raw.data(), false);
}

void Parameters::set(int parameter, const float* values, char* to) const {
  const std::vector<float> raw = permuted(parameter, values, true);
  device_->copy_in(to + offset_bytes(parameter), raw.data(), static_cast<int64_t>(raw.size() * sizeof(float)));
}

}  // namespace warploom
