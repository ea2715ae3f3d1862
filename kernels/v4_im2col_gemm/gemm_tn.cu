// Maths    C = A * B, see common/gemm/sgemm.cuh.
// Layout   A [K, M] contiguous along M (weights, transposed), B [K, N] contiguous along N: the input gradient, and
//          the forward product where the rows of the weights straddle sectors (turns_over).
// Owns     chosen by shape: choose_sgemm().
// Bound    FFMA issue for large tiles, memory for thin ones.
// Needs    nothing beyond 32-bit sizes; unaligned operands take the scalar loads.
#include "gemm.h"

namespace warploom::v4 {

void sgemm_tn(GemmProblem p, const Context& context) {
  if (p.splits == 1) p.split_length = p.K;
  p.c_vector = columns_vectorize(p.c, p.c_batch) && p.c_split % 4 == 0;
  const bool a = columns_vectorize(p.a, p.a_batch), b = columns_vectorize(p.b, p.b_batch);
  if (a && b) return choose_sgemm<false, false, 4, 4>("sgemm_tn", p, context);
  choose_sgemm<false, false, 1, 1>("sgemm_tn", p, context);
}

}  // namespace warploom::v4
