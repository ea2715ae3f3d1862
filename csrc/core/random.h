// random.h - counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
// The i-th number of a stream depends on (seed, stream, i) alone, so weights are the same on every device and whatever else is
// drawn.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string>

namespace warploom {

class Philox {
 public:
  Philox(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  std::array<uint32_t, 4> block(uint64_t index) const {
    std::array<uint32_t, 4> c = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), static_cast<uint32_t>(stream_),
                                 static_cast<uint32_t>(stream_ >> 32)};
    uint32_t k0 = static_cast<uint32_t>(seed_), k1 = static_cast<uint32_t>(seed_ >> 32);
    for (int round = 0; round < 10; round++) {
      const uint64_t a = uint64_t(0xD2511F53u) * c[0], b = uint64_t(0xCD9E8D57u) * c[2];
      c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b), static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1,
           static_cast<uint32_t>(a)};
      k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return c;
  }

  double uniform(uint64_t i) const {  // in (0, 1)
    return (block(i / 4)[i % 4] + 0.5) * 0x1p-32;
  }

  double normal(uint64_t i) const {  // Box-Muller; elements 2k and 2k+1 share a pair of uniforms
    const auto b = block(i / 4);
    const size_t pair = i % 4 / 2 * 2;
    const double u = (b[pair] + 0.5) * 0x1p-32, v = (b[pair + 1] + 0.5) * 0x1p-32;
    const double r = std::sqrt(-2.0 * std::log(u)), angle = 6.283185307179586476925 * v;
    return i % 2 ? r * std::sin(angle) : r * std::cos(angle);
  }

 private:
  uint64_t seed_, stream_;
};

inline uint64_t stream_of(const std::string& name) {  // FNV-1a
  uint64_t h = 1469598103934665603ull;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return h;
}

}  // namespace warploom
