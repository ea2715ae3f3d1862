// Maths    C = A * B, see common/gemm/sgemm.cuh.
// Layout   A [M, K] contiguous along K (weights), B [K, N] contiguous along N (columns): the forward product.
// Owns     chosen by shape: choose_sgemm().
// Bound    FFMA issue for large tiles, memory for thin ones.
// Needs    nothing beyond 32-bit sizes; unaligned operands take the scalar loads.
#include "gemm.h"

namespace warploom::v4 {

void sgemm_nn(GemmProblem p, const Context& context) {
  if (p.splits == 1) p.split_length = p.K;
  p.c_vector = columns_vectorize(p.c, p.c_batch) && p.c_split % 4 == 0;
  const bool a = p.K % 4 == 0 && columns_vectorize(p.a, p.a_batch), b = columns_vectorize(p.b, p.b_batch);
  if (a && b) return choose_sgemm<true, false, 4, 4>("sgemm_nn", p, context);
  if (b) return choose_sgemm<true, false, 1, 4>("sgemm_nn", p, context);
  choose_sgemm<true, false, 1, 1>("sgemm_nn", p, context);
}

}  // namespace warploom::v4
