// pack_weights.h - inside v7: the weights as wgmma reads them, so that the copy engine can bring a tap of them in one piece.
#pragma once

#include "halo_gemm.cuh"

namespace warploom::v7 {

// Of which w hwio [KH, KW, C_in, C_out] and of what: n an output channel and k an input channel, the other way round, or the former with
// the 16 sums of 9 taps that a nearest upsample by 2 makes of them (common/summed_taps.cuh).
enum class WeightForm { forward, transposed, upsampled };

// packed: [n_tiles][chunks][taps][columns of n][128 bytes of k], 16-byte chunks exchanged by n modulo 8, zeros past the channels.
template <class T>
void pack_weights(const Context& context, WeightForm form, const HaloGemm& g, int columns, const float* w, unsigned char* packed);

}  // namespace warploom::v7
