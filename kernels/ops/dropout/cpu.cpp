// dropout/cpu.cpp - dropout on the host: a vector of Philox counters draws four positions of several channels (NHWC) or several groups
// of four positions (NCHW) at once.
#include "../maps_cpu.h"
#include "csrc/cpu/draws.h"
#include "csrc/cpu/entries.h"
#include "preconditions.h"

namespace warploom::cpu {
namespace {

constexpr int kBlocks = kDraws / 4;  // of four words, in one call of draw()

struct Draw {
  uint32_t limit, step, stream, key_low, key_high;
  float scale;  // of what stays
  explicit Draw(const Dropout& a)
      : limit(draw_limit(a.keep)),
        step(static_cast<uint32_t>(*a.step.ptr<int>())),
        stream(static_cast<uint32_t>(a.stream)),
        key_low(static_cast<uint32_t>(a.seed)),
        key_high(static_cast<uint32_t>(static_cast<uint64_t>(a.seed) >> 32)),
        scale(a.keep > 0.0f ? 1.0f / a.keep : 0.0f) {}
  // The factors of kBlocks groups of four positions; counter(b): group | row << 32.
  template <class Counter>
  WL_INLINE void factors(Counter counter, float (&f)[kDraws]) const {
    alignas(64) uint32_t words[kDraws];
    draw(counter, step, stream, key_low, key_high, words);
    for (int i = 0; i < kDraws; ++i) f[i] = words[i] < limit ? scale : 0.0f;
  }
};

constexpr uint64_t counter_of(int64_t group, int64_t row) {
  return static_cast<uint64_t>(group) | static_cast<uint64_t>(row) << 32;
}

// [N, inner, C]: four positions of kBlocks channels at a time.
void across_channels(const Dropout& a, const Draw& d) {
  const int64_t C = a.C, inner = a.inner, groups = ceil_div(inner, 4);
  const float* x = a.x.ptr();
  float* y = a.y.ptr();
  parallel_blocks(a.N * groups, std::max<int64_t>(1, kTaskElements / (4 * C)), [&](int64_t begin, int64_t end, int) {
    alignas(64) float f[kDraws], lane[kBlocks];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / groups, group = task % groups, row = image * C;
      const int positions = static_cast<int>(std::min<int64_t>(4, inner - 4 * group));
      for (int64_t c = 0; c < C; c += kBlocks) {
        const int n = static_cast<int>(std::min<int64_t>(kBlocks, C - c));
        d.factors([=](int b) { return counter_of(a.whole_channels ? 0 : group, row + c + b); }, f);
        for (int e = 0; e < positions; ++e) {
          for (int b = 0; b < kBlocks; ++b) lane[b] = f[4 * b + (a.whole_channels ? 0 : e)];
          const int64_t at = (image * inner + 4 * group + e) * C + c;
          store_part(y + at, load_part(x + at, n) * load(lane), n);
        }
      }
    }
  });
}

// Rows (n, c) of `inner` neighbouring elements.
void along_rows(const Dropout& a, const Draw& d) {
  const int64_t inner = a.inner;
  const float* x = a.x.ptr();
  float* y = a.y.ptr();
  parallel_blocks(a.N * a.C, std::max<int64_t>(1, kTaskElements / inner), [&](int64_t begin, int64_t end, int) {
    alignas(64) float f[kDraws];
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < inner; i += kDraws) {
        d.factors([=](int b) { return counter_of(a.whole_channels ? 0 : i / 4 + b, row); }, f);
        if (a.whole_channels)
          for (int e = 1; e < kDraws; ++e) f[e] = f[0];
        for (int part = 0; part < kDraws && i + part < inner; part += kWidth) {
          const int64_t at = row * inner + i + part;
          const int n = static_cast<int>(std::min<int64_t>(kWidth, inner - i - part));
          store_part(y + at, load_part(x + at, n) * load(f + part), n);
        }
      }
  });
}

void run(const Dropout& a, const Context&) {
  const Draw d(a);
  if (a.layout == Layout::nhwc && a.C > 1 && a.inner > 1) return across_channels(a, d);
  along_rows(a, d);
}

}  // namespace

Entry<Dropout> dropout() { return {run, dropout_error, nullptr, nullptr}; }

}  // namespace warploom::cpu
