// gemm.h - the three products a convolution needs, named by how their operands are stored (see common/gemm/sgemm.cuh).
#pragma once

#include "../common/gemm/sgemm.cuh"

namespace warploom::v4 {

void sgemm_nn(GemmProblem p, const Context& context);  // A [M, K], B [K, N]
void sgemm_tn(GemmProblem p, const Context& context);  // A [K, M], B [K, N]
void sgemm_nt(GemmProblem p, const Context& context);  // A [M, K], B [N, K]; takes splits

}  // namespace warploom::v4
