// tensor_cores.cpp - mma.sync and ldmatrix for a whole warp: which element of a matrix each register of each lane holds, and what
// the tensor cores make of them.
//
// Layouts: PTX ISA, "Warp-level matrix instructions", sections "Matrix fragments for mma.m16n8k8", "... m16n8k16" and
// "ldmatrix". With g = lane / 4 and t = lane % 4, in 32-bit registers (16-bit elements in pairs, the lower half first):
//   A, k16, 16 bit  a0 (g, 2t..)  a1 (g + 8, 2t..)  a2 (g, 2t + 8..)  a3 (g + 8, 2t + 8..)     B  b0 (2t.., g)  b1 (2t + 8.., g)
//   A, k8, 16 bit   a0 (g, 2t..)  a1 (g + 8, 2t..)                                             B  b0 (2t.., g)
//   A, k8, tf32     a0 (g, t)     a1 (g + 8, t)     a2 (g, t + 4)     a3 (g + 8, t + 4)        B  b0 (t, g)     b1 (t + 4, g)
//   C               c0 (g, 2t)    c1 (g, 2t + 1)    c2 (g + 8, 2t)    c3 (g + 8, 2t + 1)
// Products are exact in float32; the sum is rounded after every one, in the order of k. PTX leaves the order and the rounding of
// the sum open, so results agree with a GPU within the bound of a float32 sum, not to the bit.
#include "tensor_cores.h"

#include "async_proxy_state.h"

namespace warploom {
namespace emulator {
namespace {

struct MultiplyOperands {
  uint32_t a[4], b[2];
  Accumulators4 c;
};
struct LoadOperands {
  uint64_t row[2];
  int count;
  Registers4 result;
};

inline float from_tf32(uint32_t v) { return bits<float>(v & 0xffffe000u); }

// a[row][k], b[k][column] from 16-bit registers.
template <float (*decode)(uint32_t)>
void gather_halves(const MultiplyOperands* const (&lanes)[32], int K, float (&a)[16][16], float (&b)[16][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int high = 0; high < K / 8; ++high) {
      for (int e = 0; e < 2; ++e) {
        const int k = 2 * t + 8 * high + e;
        a[g][k] = decode(lanes[lane]->a[2 * high] >> (16 * e) & 0xffffu);
        a[g + 8][k] = decode(lanes[lane]->a[2 * high + 1] >> (16 * e) & 0xffffu);
        b[k][g] = decode(lanes[lane]->b[high] >> (16 * e) & 0xffffu);
      }
    }
  }
}

}  // namespace

float decode_element(OperandType type, const char* from, int index) {
  if (type == OperandType::tf32) return from_tf32(reinterpret_cast<const uint32_t*>(from)[index]);
  const uint32_t h = reinterpret_cast<const uint16_t*>(from)[index];
  return type == OperandType::bf16 ? from_bf16(h) : from_f16(h);
}

void gather_fragment(OperandType type, int lane, const uint32_t (&r)[4], float (&a)[16][16]) {
  const int g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + i % 2 * 8;
    if (type == OperandType::tf32) {
      a[row][t + i / 2 * 4] = from_tf32(r[i]);
      continue;
    }
    for (int e = 0; e < 2; ++e) {
      const uint32_t h = r[i] >> (16 * e) & 0xffffu;
      a[row][2 * t + i / 2 * 8 + e] = type == OperandType::bf16 ? from_bf16(h) : from_f16(h);
    }
  }
}

static void multiply_matrices(TensorOp op, const uint64_t (&operands)[32]) {
  MultiplyOperands* lanes[32];
  const MultiplyOperands* readable[32];
  for (int lane = 0; lane < 32; ++lane) readable[lane] = lanes[lane] = reinterpret_cast<MultiplyOperands*>(operands[lane]);
  const int K = op == TensorOp::mma_m16n8k8_f16 || op == TensorOp::mma_m16n8k8_tf32 ? 8 : 16;
  float a[16][16], b[16][8], c[16][8];
  if (op == TensorOp::mma_m16n8k16_bf16) {
    gather_halves<from_bf16>(readable, K, a, b);
  } else if (op == TensorOp::mma_m16n8k8_tf32) {
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4;
      for (int high = 0; high < 2; ++high) {
        a[g][t + 4 * high] = from_tf32(lanes[lane]->a[2 * high]);
        a[g + 8][t + 4 * high] = from_tf32(lanes[lane]->a[2 * high + 1]);
        b[t + 4 * high][g] = from_tf32(lanes[lane]->b[high]);
      }
    }
  } else {
    gather_halves<from_f16>(readable, K, a, b);
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2] = lanes[lane]->c.v[i];
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < K; ++k)
      for (int n = 0; n < 8; ++n) c[m][n] += a[m][k] * b[k][n];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) lanes[lane]->c.v[i] = c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

// Matrix i is 8 rows of 8 16-bit elements, at the addresses that lanes 8i .. 8i + 7 gave. A lane gets elements 2t, 2t + 1 of row g;
// of the transposed matrix, where that was asked for.
static void distribute_matrices(bool transposed, const uint64_t (&operands)[32]) {
  LoadOperands* lanes[32];
  for (int lane = 0; lane < 32; ++lane) lanes[lane] = reinterpret_cast<LoadOperands*>(operands[lane]);
  const int count = lanes[0]->count;
  auto element = [&](int matrix, int row, int column) {
    return static_cast<uint32_t>(lanes[8 * matrix + row]->row[column / 4] >> (16 * (column % 4)) & 0xffffu);
  };
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < count; ++i)
      lanes[lane]->result.r[i] = transposed ? element(i, 2 * t, g) | element(i, 2 * t + 1, g) << 16
                                            : element(i, g, 2 * t) | element(i, g, 2 * t + 1) << 16;
  }
}

void complete_tensor_op(int op, unsigned arrived, const uint64_t (&operands)[32]) {
  if (arrived != 0xffffffffu) fail("mma, wgmma and ldmatrix need all 32 lanes of a warp, only lanes 0x%08x came", arrived);
  const TensorOp t = static_cast<TensorOp>(op);
  if (t == TensorOp::warpgroup_wait)
    complete_warpgroup_wait(operands);
  else if (t == TensorOp::load_matrices || t == TensorOp::load_matrices_transposed)
    distribute_matrices(t == TensorOp::load_matrices_transposed, operands);
  else
    multiply_matrices(t, operands);
}

Accumulators4 warp_multiply(TensorOp op, uint64_t a01, uint64_t a23, uint64_t b01, Accumulators4 c, Site site) {
  MultiplyOperands mine = {{static_cast<uint32_t>(a01), static_cast<uint32_t>(a01 >> 32), static_cast<uint32_t>(a23),
                            static_cast<uint32_t>(a23 >> 32)},
                           {static_cast<uint32_t>(b01), static_cast<uint32_t>(b01 >> 32)},
                           c};
  warp_rendezvous(static_cast<WarpOp>(op), 0xffffffffu, reinterpret_cast<uint64_t>(&mine), 0, site);
  asm volatile("" : : "r"(&mine) : "memory");  // another lane may have written it
  return mine.c;
}

const void* matrix_row(const void* row, int lanes) {
  alignas(16) static const char zeros[16] = {};
  if (static_cast<int>(current_fiber()->number & 31u) >= lanes) return zeros;
  require_shared(row, "ldmatrix");
  return row;
}

Registers4 warp_load_matrices(TensorOp op, int count, uint64_t row_low, uint64_t row_high, Site site) {
  LoadOperands mine = {{row_low, row_high}, count, {}};
  warp_rendezvous(static_cast<WarpOp>(op), 0xffffffffu, reinterpret_cast<uint64_t>(&mine), 0, site);
  asm volatile("" : : "r"(&mine) : "memory");
  if (Fiber* self = current_fiber(); self->multiplies) registers_written(self);
  return mine.result;
}

}  // namespace emulator
}  // namespace warploom
