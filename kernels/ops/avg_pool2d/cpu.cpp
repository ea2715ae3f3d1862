// avg_pool2d/cpu.cpp - average pooling on the host. NHWC: vectors over channels, a task owns rows of the written map. NCHW: a task owns
// planes. The gradient gathers: every input element sums the windows that hold it, in order.
#include "../maps_cpu.h"
#include "../preconditions.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

struct Span {  // first <= i < end
  int first, end;
};
Span windows_of(int at, int kernel, int stride, int count) {  // that hold position `at`
  return {at < kernel ? 0 : (at - kernel) / stride + 1, std::min(at / stride, count - 1) + 1};
}

// to[h, w] = share * the sum of from[rows(h), columns(w)], for maps of C channels, innermost.
template <class Rows, class Columns>
void gather_nhwc(int64_t N, int height, int width, int64_t C, int from_height, int from_width, float share, const float* from,
                 float* to, Rows rows, Columns columns) {
  parallel_blocks(N * height, std::max<int64_t>(1, kTaskElements / (width * C)), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* image = from + row / height * from_height * from_width * C;
      const Span hs = rows(static_cast<int>(row % height));
      for (int w = 0; w < width; ++w) {
        const Span ws = columns(w);
        for (int64_t c = 0; c < C; c += kWidth) {
          const int n = static_cast<int>(std::min<int64_t>(kWidth, C - c));
          vf sum{};
          for (int h = hs.first; h < hs.end; ++h)
            for (int v = ws.first; v < ws.end; ++v) sum += load_part(image + (int64_t(h) * from_width + v) * C + c, n);
          store_part(to + (row * width + w) * C + c, sum * share, n);
        }
      }
    }
  });
}

template <class Rows, class Columns>
void gather_planes(int64_t planes, int height, int width, int from_height, int from_width, float share, const float* from,
                   float* to, Rows rows, Columns columns) {
  const int64_t size = int64_t(height) * width;
  parallel_blocks(planes, std::max<int64_t>(1, kTaskElements / size), [&](int64_t begin, int64_t end, int) {
    for (int64_t plane = begin; plane < end; ++plane)
      for (int h = 0; h < height; ++h)
        for (int w = 0; w < width; ++w) {
          const Span hs = rows(h), ws = columns(w);
          float sum = 0.0f;
          for (int r = hs.first; r < hs.end; ++r)
            for (int c = ws.first; c < ws.end; ++c) sum += from[(plane * from_height + r) * from_width + c];
          to[plane * size + int64_t(h) * width + w] = sum * share;
        }
  });
}

float share_of(const Pool2dShape& s) { return 1.0f / (static_cast<float>(s.KH) * static_cast<float>(s.KW)); }

void run_forward(const AvgPool2dForward& a, const Context&) {
  const Pool2dShape& s = a.s;
  const auto rows = [&](int oh) { return Span{oh * s.stride_h, oh * s.stride_h + s.KH}; };
  const auto columns = [&](int ow) { return Span{ow * s.stride_w, ow * s.stride_w + s.KW}; };
  if (a.layout == Layout::nhwc)
    gather_nhwc(s.N, s.OH, s.OW, s.C, s.H, s.W, share_of(s), a.x.ptr(), a.y.ptr(), rows, columns);
  else
    gather_planes(int64_t(s.N) * s.C, s.OH, s.OW, s.H, s.W, share_of(s), a.x.ptr(), a.y.ptr(), rows, columns);
}

void run_backward(const AvgPool2dBackward& a, const Context&) {
  const Pool2dShape& s = a.s;
  const auto rows = [&](int h) { return windows_of(h, s.KH, s.stride_h, s.OH); };
  const auto columns = [&](int w) { return windows_of(w, s.KW, s.stride_w, s.OW); };
  if (a.layout == Layout::nhwc)
    gather_nhwc(s.N, s.H, s.W, s.C, s.OH, s.OW, share_of(s), a.dy.ptr(), a.dx.ptr(), rows, columns);
  else
    gather_planes(int64_t(s.N) * s.C, s.H, s.W, s.OH, s.OW, share_of(s), a.dy.ptr(), a.dx.ptr(), rows, columns);
}

}  // namespace

Entry<AvgPool2dForward> avg_pool2d_forward() { return {run_forward, pool2d_shape<AvgPool2dForward>, nullptr, nullptr}; }
Entry<AvgPool2dBackward> avg_pool2d_backward() { return {run_backward, pool2d_shape<AvgPool2dBackward>, nullptr, nullptr}; }

}  // namespace warploom::cpu
