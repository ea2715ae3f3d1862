// multiply/cpu.cpp - elementwise product on the host, the second factor whole or a mask of one channel, and its gradient.
#include "../maps_cpu.h"
#include "../preconditions.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

void whole_product(int64_t count, const float* a, const float* b, float* y) {
  parallel_blocks(count, kTaskElements, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, end - i));
      store_part(y + i, load_part(a + i, n) * load_part(b + i, n), n);
    }
  });
}

// y[r, c] = a[r, c] * b[r], channels innermost.
void row_product(int64_t rows, int64_t C, const float* a, const float* b, float* y) {
  parallel_blocks(rows, std::max<int64_t>(1, kTaskElements / C), [=](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float factor = b[row];
      const float* from = a + row * C;
      float* to = y + row * C;
      if (C < kWidth) {
        for (int64_t c = 0; c < C; ++c) to[c] = from[c] * factor;
        continue;
      }
      for (int64_t c = 0; c < C; c += kWidth) {
        const int n = static_cast<int>(std::min<int64_t>(kWidth, C - c));
        store_part(to + c, load_part(from + c, n) * factor, n);
      }
    }
  });
}

void plane_product(int64_t outer, int64_t C, int64_t inner, const float* a, const float* b, float* y) {
  parallel_blocks(outer * C, std::max<int64_t>(1, kTaskElements / inner), [=](int64_t begin, int64_t end, int) {
    for (int64_t plane = begin; plane < end; ++plane)
      for (int64_t i = 0; i < inner; i += kWidth) {
        const int n = static_cast<int>(std::min<int64_t>(kWidth, inner - i));
        store_part(y + plane * inner + i, load_part(a + plane * inner + i, n) * load_part(b + plane / C * inner + i, n), n);
      }
  });
}

void product(int64_t outer, int64_t C, int64_t inner, int64_t b_channels, const float* a, const float* b, float* y) {
  if (b_channels == C)
    whole_product(outer * C * inner, a, b, y);
  else if (inner == 1)
    row_product(outer, C, a, b, y);
  else
    plane_product(outer, C, inner, a, b, y);
}

// db[o, i] = sum over c of dy * a.
void mask_gradient(int64_t outer, int64_t C, int64_t inner, const float* dy, const float* a, float* db) {
  if (inner == 1) {
    parallel_blocks(outer, std::max<int64_t>(1, kTaskElements / C), [=](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        vf total{};
        for (int64_t c = 0; c < C; c += kWidth) {
          const int n = static_cast<int>(std::min<int64_t>(kWidth, C - c));
          total += load_part(dy + row * C + c, n) * load_part(a + row * C + c, n);
        }
        db[row] = sum(total);
      }
    });
    return;
  }
  const int64_t pieces = ceil_div(inner, 1024);  // of a plane
  parallel(outer * pieces, [=](int64_t task, int) {
    const int64_t o = task / pieces, begin = task % pieces * 1024, end = std::min(begin + 1024, inner);
    for (int64_t i = begin; i < end; i += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, end - i));
      vf total{};
      for (int64_t c = 0; c < C; ++c) {
        const int64_t at = (o * C + c) * inner + i;
        total += load_part(dy + at, n) * load_part(a + at, n);
      }
      store_part(db + o * inner + i, total, n);
    }
  });
}

void run_forward(const MultiplyForward& s, const Context&) {
  product(s.outer, s.C, s.inner, s.b_channels, s.a.ptr(), s.b.ptr(), s.y.ptr());
}

void run_backward(const MultiplyBackward& s, const Context&) {
  if (s.db && !s.a) throw DeviceError("multiply_backward: the gradient of b needs a, which was not given");
  if (s.db && s.b_channels == s.C)
    whole_product(s.outer * s.C * s.inner, s.dy.ptr(), s.a.ptr(), s.db.ptr());
  else if (s.db)
    mask_gradient(s.outer, s.C, s.inner, s.dy.ptr(), s.a.ptr(), s.db.ptr());
  if (s.da) product(s.outer, s.C, s.inner, s.b_channels, s.dy.ptr(), s.b.ptr(), s.da.ptr());
}

}  // namespace

Entry<MultiplyForward> multiply_forward() { return {run_forward, multiply_error<MultiplyForward>, nullptr, nullptr}; }
Entry<MultiplyBackward> multiply_backward() { return {run_backward, multiply_error<MultiplyBackward>, nullptr, nullptr}; }

}  // namespace warploom::cpu
