// winner_take_all/cpu.cpp - winner-take-all sparsity on the host: the largest element of every map, the largest of a channel's winners
// by selection, and a pass that leaves nothing else.
#include <algorithm>
#include <cstring>
#include <functional>

#include "../maps_cpu.h"
#include "csrc/cpu/entries.h"
#include "preconditions.h"

namespace warploom::cpu {
namespace {

constexpr int kLanes = 64;  // channels of a strip

// Larger for a larger float; one key for both zeros, the largest for a NaN.
WL_INLINE uint32_t winner_key(float value) {
  const float v = value + 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return v == v ? ordered : 0xffffffffu;
}

// Whether the elements of a map are neighbours; else those of a place are, [N, inner, C].
template <class Args>
bool maps_are_rows(const Args& a) {
  return a.layout == Layout::nchw && a.inner > 1;
}

void find_winners(const WinnerTakeAllForward& a) {
  const float* x = a.x.ptr();
  int* winners = a.winners.ptr<int>();
  const int64_t C = a.C, inner = a.inner;
  if (maps_are_rows(a)) {
    parallel_blocks(a.N * C, std::max<int64_t>(1, kTaskElements / inner), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const float* from = x + row * inner;
        uint32_t best = winner_key(from[0]);
        int at = 0;
        for (int64_t i = 1; i < inner; ++i) {
          const uint32_t key = winner_key(from[i]);
          if (key > best) best = key, at = static_cast<int>(i);
        }
        winners[row] = at;
      }
    });
    return;
  }
  parallel_blocks(a.N, std::max<int64_t>(1, kTaskElements / (C * inner)), [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n)
      for (int64_t c0 = 0; c0 < C; c0 += kLanes) {
        const int lanes = static_cast<int>(std::min<int64_t>(kLanes, C - c0));
        uint32_t best[kLanes];
        int at[kLanes] = {};
        for (int64_t i = 0; i < inner; ++i) {
          const float* from = x + (n * inner + i) * C + c0;
          for (int j = 0; j < lanes; ++j) {
            const uint32_t key = winner_key(from[j]);
            const bool better = i == 0 || key > best[j];
            best[j] = better ? key : best[j];
            at[j] = better ? static_cast<int>(i) : at[j];
          }
        }
        std::copy(at, at + lanes, winners + n * C + c0);
      }
  });
}

void keep_largest(const WinnerTakeAllForward& a, uint32_t* scratch) {
  if (a.keep >= a.N) return;
  const float* x = a.x.ptr();
  int* winners = a.winners.ptr<int>();
  const int64_t N = a.N, C = a.C;
  const bool rows = maps_are_rows(a);
  parallel_blocks(C, std::max<int64_t>(1, kTaskElements / (8 * N)), [&](int64_t begin, int64_t end, int worker) {
    uint32_t *keys = scratch + worker * 2 * N, *sorted = keys + N;
    for (int64_t c = begin; c < end; ++c) {
      for (int64_t n = 0; n < N; ++n) {
        const int64_t map = n * C + c, place = winners[map];
        keys[n] = winner_key(x[rows ? map * a.inner + place : (n * a.inner + place) * C + c]);
      }
      std::copy(keys, keys + N, sorted);
      std::nth_element(sorted, sorted + a.keep - 1, sorted + N, std::greater<uint32_t>());
      const uint32_t last = sorted[a.keep - 1];
      int64_t equals = a.keep - std::count_if(keys, keys + N, [=](uint32_t key) { return key > last; });
      for (int64_t n = 0; n < N; ++n) {
        const bool stays = keys[n] > last || (keys[n] == last && equals-- > 0);
        if (!stays) winners[n * C + c] = -1 - winners[n * C + c];
      }
    }
  });
}

// to = from where a winner stays, 0 elsewhere.
template <class Args>
void leave_winners(const Args& a, const int* winners, const float* from, float* to) {
  const int64_t C = a.C, inner = a.inner;
  if (maps_are_rows(a)) {
    parallel_blocks(a.N * C, std::max<int64_t>(1, kTaskElements / inner), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const int at = winners[row];
        const float value = at < 0 ? 0.0f : from[row * inner + at];
        std::fill(to + row * inner, to + (row + 1) * inner, 0.0f);
        if (at >= 0) to[row * inner + at] = value;
      }
    });
    return;
  }
  parallel_blocks(a.N * inner, std::max<int64_t>(1, kTaskElements / C), [&](int64_t begin, int64_t end, int) {
    for (int64_t place = begin; place < end; ++place) {
      const int* at = winners + place / inner * C;
      const int i = static_cast<int>(place % inner);
      const float* x = from + place * C;
      float* y = to + place * C;
      for (int64_t c = 0; c < C; ++c) y[c] = at[c] == i ? x[c] : 0.0f;
    }
  });
}

void run(const WinnerTakeAllForward& a, const Context& context) {
  if (a.N == 0) return;
  find_winners(a);
  keep_largest(a, context.workspace.ptr<uint32_t>());
  leave_winners(a, a.winners.ptr<int>(), a.x.ptr(), a.y.ptr());
}
void run(const WinnerTakeAllBackward& a, const Context&) {
  if (a.N > 0) leave_winners(a, a.winners.ptr<int>(), a.dy.ptr(), a.dx.ptr());
}
int64_t workspace_bytes(const WinnerTakeAllForward& a) {
  return a.keep < a.N ? int64_t(thread_count()) * 2 * a.N * static_cast<int64_t>(sizeof(uint32_t)) : 0;
}

}  // namespace

Entry<WinnerTakeAllForward> winner_take_all_forward() { return {run, winner_take_all_error, workspace_bytes, nullptr}; }
Entry<WinnerTakeAllBackward> winner_take_all_backward() { return {run, winner_take_all_gradient_error, nullptr, nullptr}; }

}  // namespace warploom::cpu
