// Maths    C = A * B, see common/gemm/sgemm.cuh.
// Layout   A [M, K], B [N, K], both contiguous along K (pixels): the weight gradient, with K split over blocks.
// Owns     chosen by shape: choose_sgemm().
// Bound    FFMA issue for large tiles, memory for thin ones.
// Needs    nothing beyond 32-bit sizes; unaligned operands take the scalar loads.
#include "gemm.h"

namespace warploom::v4 {

void sgemm_nt(GemmProblem p, const Context& context) {
  if (p.splits == 1) p.split_length = p.K;
  p.c_vector = columns_vectorize(p.c, p.c_batch) && p.c_split % 4 == 0;
  p.a_jump = static_cast<int>(p.a.image_stride - p.a.image_columns);
  p.b_jump = static_cast<int>(p.b.image_stride - p.b.image_columns);
  const bool whole = p.K % 4 == 0;  // no float4 may reach past K
  const bool a = whole && columns_vectorize(p.a, p.a_batch), b = whole && columns_vectorize(p.b, p.b_batch);
  if (a && b) return choose_sgemm<true, true, 4, 4>("sgemm_nt", p, context);
  choose_sgemm<true, true, 1, 1>("sgemm_nt", p, context);
}

}  // namespace warploom::v4
