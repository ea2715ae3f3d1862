// errand.h - small work that calls want done before them, of several calls in one launch (OpTable::run_errands).
#pragma once

#include "args.h"

namespace warploom {

// prepare_*: weights hwio [taps, C_in, C_out] as wgmma reads them, rounded to 16 bits or tf32: [tiles of n][chunks of k][taps][columns of
// n][128 bytes of k], 16-byte chunks exchanged by n modulo 8, zeros past the channels. sum_taps: w hwio [3, 3, C_in, C_out] -> the sums
// [4, 4, C_out, C_in] that an upsample makes of its taps (common/summed_taps.cuh), float32.
enum class ErrandKind : int { none, prepare_bf16, prepare_f16, prepare_tf32, sum_taps };
// Of what weights are prepared: n an output channel and k an input channel, or the other way round; and both with the 16 sums of 9 taps.
// upsampled_transposed: chunks of one phase of the large map after those of another, four taps each.
enum class WeightForm : int { forward, transposed, upsampled, upsampled_transposed };

struct Errand {
  ErrandKind kind = ErrandKind::none;
  WeightForm form = WeightForm::forward;
  int n = 0, k = 0;  // channels; of sum_taps: C_out, C_in
  int n_tiles = 0, columns = 0, chunks = 0, taps = 0;
  In from;
  Out to;
  bool operator==(const Errand& o) const {  // the same work, wherever it goes
    return kind == o.kind && form == o.form && n == o.n && k == o.k && n_tiles == o.n_tiles && columns == o.columns &&
           chunks == o.chunks && taps == o.taps && from.data == o.from.data && to.bytes == o.to.bytes;
  }
};
constexpr int kMostErrands = 8;  // of a launch

}  // namespace warploom
