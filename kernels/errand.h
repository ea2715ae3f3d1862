// errand.h - small work that calls want done before or after them, of several calls in one launch (OpTable::run_errands).
#pragma once

#include "args.h"

namespace warploom {

enum class ErrandKind : int {
  none,
  // Weights hwio [taps, C_in, C_out] as wgmma reads them, rounded to 16 bits or tf32: [tiles of n][chunks of k][taps][columns of n][128
  // bytes of k], 16-byte chunks exchanged by n modulo 8, zeros past the channels.
  prepare_bf16,
  prepare_f16,
  prepare_tf32,
  sum_taps,  // w hwio [3, 3, C_in, C_out] -> the sums [4, 4, C_out, C_in] that an upsample makes of its taps (summed_taps.cuh), float32
  // Sums of float32 over runs, in a fixed order; the element that is summed is
  add_runs,              // [runs, count]: to [count]. One run in the place of the result: nothing but the update.
  turn_runs,             // [runs, taps, k, n]: to [taps, n, k]
  spread_runs,           // [runs, 4, 4, k, n], of an upsample's sums: to [3, 3, k, n], of each tap the four that hold it
  turn_and_spread_runs,  // [runs, 4, 4, n, k]: the same
  mean,     // f64 [runs], of a loss's blocks: to its value, weight times their sum over `elements`; total: see MseLoss
  advance,  // i32 to += n
};
// Of what weights are prepared: n an output channel and k an input channel, or the other way round; and both with the 16 sums of 9 taps.
// upsampled_transposed: chunks of one phase of the large map after those of another, four taps each.
enum class WeightForm : int { forward, transposed, upsampled, upsampled_transposed };

struct Errand {
  ErrandKind kind = ErrandKind::none;
  WeightForm form = WeightForm::forward;
  int n = 0, k = 0;                                    // channels; of sum_taps and the sums after it: C_out, C_in
  int n_tiles = 0, columns = 0, chunks = 0, taps = 0;  // columns, of sums: elements of a thread, run_errands()'s choice
  int runs = 0, samples = 0;
  float weight = 1.0f;
  int64_t elements = 0;
  In from;
  Out to;
  InOut total;
  bool operator==(const Errand& o) const {  // the same work, wherever it goes
    return kind == o.kind && form == o.form && n == o.n && k == o.k && n_tiles == o.n_tiles && columns == o.columns &&
           chunks == o.chunks && taps == o.taps && from.data == o.from.data && to.bytes == o.to.bytes;
  }
};
constexpr int kMostErrands = 24;  // of a launch

// What a call does last: errands that read from memory of so many bytes, which it filled. `from` is counted from its beginning.
struct Rest {
  static constexpr int kMost = 2;
  Errand list[kMost];
  int count = 0;
  int64_t bytes = 0;
  void add(ErrandKind kind, int runs, int64_t floats, const Out& to) {  // floats: of a run
    Errand& e = list[count++];
    e.kind = kind, e.runs = runs, e.to = to;
    e.from = In{reinterpret_cast<const void*>(bytes), runs * floats * 4};
    bytes += e.from.bytes;
  }
};

}  // namespace warploom
