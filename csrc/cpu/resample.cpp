// resample.cpp - max pool and upsample (nearest, bilinear with half-pixel centres), forward and backward.
//
// NHWC: vectors run over channels; one task is one row of the output. Backward passes gather: a task owns a row of dx and adds
// what reaches it in a fixed order, so overlapping windows need no atomics.
#include <vector>

#include "common.h"
#include "entries.h"

namespace warploom::cpu {

void max_pool2d_forward(const MaxPool2dForward& a, const Context&) {
  const auto& s = a.s;
  parallel(int64_t(s.N) * s.OH, [&](int64_t task, int) {
    const int64_t n = task / s.OH, oh = task % s.OH;
    const float* image = a.x.ptr() + n * s.H * s.W * s.C;
    for (int ow = 0; ow < s.OW; ++ow) {
      const int64_t out = (task * s.OW + ow) * s.C;
      for (int c = 0; c < s.C; c += kWidth) {
        const int part = std::min(kWidth, s.C - c);
        vf best{};
        vi where{};
        for (int kh = 0; kh < s.KH; ++kh)
          for (int kw = 0; kw < s.KW; ++kw) {
            const int at = static_cast<int>((oh * s.stride_h + kh) * s.W + ow * s.stride_w + kw);
            const vf x = load_part(image + int64_t(at) * s.C + c, part);
            if (kh + kw == 0)
              best = x, where = broadcast(int32_t(at));
            else
              take_larger(x, at, best, where);
          }
        store_part(a.y.ptr() + out + c, best, part);
        if (a.index) store_part(reinterpret_cast<float*>(a.index.ptr<int32_t>() + out + c), reinterpret_cast<vf>(where), part);
      }
    }
  });
}

void max_pool2d_backward(const MaxPool2dBackward& a, const Context&) {
  const auto& s = a.s;
  parallel(int64_t(s.N) * s.H, [&](int64_t task, int) {
    const int64_t n = task / s.H;
    const int h = static_cast<int>(task % s.H);
    const int first_h = std::max(0, static_cast<int>(ceil_div(h - s.KH + 1, s.stride_h))),
              last_h = std::min(s.OH - 1, h / s.stride_h);
    for (int w = 0; w < s.W; ++w) {
      const int first_w = std::max(0, static_cast<int>(ceil_div(w - s.KW + 1, s.stride_w)));
      const int last_w = std::min(s.OW - 1, w / s.stride_w);
      const vi here = broadcast(int32_t(h * s.W + w));
      for (int c = 0; c < s.C; c += kWidth) {
        const int part = std::min(kWidth, s.C - c);
        vf total{};
        for (int oh = first_h; oh <= last_h; ++oh)
          for (int ow = first_w; ow <= last_w; ++ow) {
            const int64_t at = ((n * s.OH + oh) * s.OW + ow) * s.C + c;
            const vf index = load_part(reinterpret_cast<const float*>(a.index.ptr<int32_t>() + at), part);
            total += select(reinterpret_cast<vi>(index) == here, load_part(a.dy.ptr() + at, part), vf{});
          }
        store_part(a.dx.ptr() + (task * s.W + w) * s.C + c, total, part);
      }
    }
  });
}

namespace {

// Output pixel `o` of a bilinear upsample lies between inputs `low` and `high`: (1 - t) * x[low] + t * x[high].
struct Between {
  int low, high;
  float t;
};
// By factor 1 it is a itself, an infinite one too.
WL_INLINE vf between(const Between& s, vf a, vf b) { return s.low == s.high && s.t == 0 ? a : (1 - s.t) * a + s.t * b; }
Between bilinear_source(int o, int scale, int size) {
  const double at = std::max(0.0, (o + 0.5) / scale - 0.5);
  const int low = std::min(static_cast<int>(at), size - 1);
  // By factor 1 nothing is interpolated: the neighbour is not looked at.
  return {low, scale == 1 ? low : std::min(low + 1, size - 1), static_cast<float>(at - low)};
}

}  // namespace

void upsample_forward(const UpsampleForward& a, const Context&) {
  const auto& s = a.s;
  const int OH = s.H * s.scale_h, OW = s.W * s.scale_w;
  std::vector<Between> columns;
  if (a.mode != UpsampleMode::nearest)
    for (int ow = 0; ow < OW; ++ow) columns.push_back(bilinear_source(ow, s.scale_w, s.W));
  parallel(int64_t(s.N) * OH, [&](int64_t task, int) {
    const float* image = a.x.ptr() + task / OH * s.H * s.W * s.C;
    const int oh = static_cast<int>(task % OH);
    float* row = a.y.ptr() + task * OW * s.C;
    if (a.mode == UpsampleMode::nearest) {
      for (int ow = 0; ow < OW; ++ow) {
        const float* from = image + (int64_t(oh / s.scale_h) * s.W + ow / s.scale_w) * s.C;
        std::copy(from, from + s.C, row + int64_t(ow) * s.C);
      }
      return;
    }
    const Between v = bilinear_source(oh, s.scale_h, s.H);
    for (int ow = 0; ow < OW; ++ow) {
      const Between u = columns[static_cast<size_t>(ow)];
      const float* corner[4] = {image + (int64_t(v.low) * s.W + u.low) * s.C, image + (int64_t(v.low) * s.W + u.high) * s.C,
                                image + (int64_t(v.high) * s.W + u.low) * s.C, image + (int64_t(v.high) * s.W + u.high) * s.C};
      for (int c = 0; c < s.C; c += kWidth) {
        const int part = std::min(kWidth, s.C - c);
        const vf top = between(u, load_part(corner[0] + c, part), load_part(corner[1] + c, part));
        const vf bottom = between(u, load_part(corner[2] + c, part), load_part(corner[3] + c, part));
        store_part(row + int64_t(ow) * s.C + c, between(v, top, bottom), part);
      }
    }
  });
}

namespace {

// The outputs of one axis that an input reaches, and its weight in each.
struct Reach {
  int output;
  float weight;
};
std::vector<std::vector<Reach>> reaches(int size, int scale, bool nearest) {
  std::vector<std::vector<Reach>> found(static_cast<size_t>(size));
  for (int o = 0; o < size * scale; ++o) {
    const Between b = nearest ? Between{o / scale, o / scale, 0.0f} : bilinear_source(o, scale, size);
    if (b.low == b.high) {
      found[static_cast<size_t>(b.low)].push_back({o, 1.0f});
      continue;
    }
    if (b.t != 1.0f) found[static_cast<size_t>(b.low)].push_back({o, 1.0f - b.t});
    if (b.t != 0.0f) found[static_cast<size_t>(b.high)].push_back({o, b.t});
  }
  return found;
}

}  // namespace

// Rows first: a row of dx is the weighted sum of some rows of dy, whose pixels are then added up along it.
void upsample_backward(const UpsampleBackward& a, const Context&) {
  const auto& s = a.s;
  const int OH = s.H * s.scale_h, OW = s.W * s.scale_w;
  const bool nearest = a.mode == UpsampleMode::nearest;
  const auto rows = reaches(s.H, s.scale_h, nearest), columns = reaches(s.W, s.scale_w, nearest);
  const int64_t length = int64_t(OW) * s.C;
  parallel(int64_t(s.N) * s.H, [&](int64_t task, int) {
    const float* image = a.dy.ptr() + task / s.H * OH * length;
    static thread_local std::vector<float> sums;
    sums.resize(static_cast<size_t>(length));
    float* sum = sums.data();
    bool add = false;
    for (const Reach& r : rows[static_cast<size_t>(task % s.H)]) {
      const float* from = image + r.output * length;
      for (int64_t i = 0; i < length; i += kWidth) {
        const int part = static_cast<int>(std::min<int64_t>(kWidth, length - i));
        const vf v = r.weight * load_part(from + i, part);
        store_part(sum + i, add ? load_part(sum + i, part) + v : v, part);
      }
      add = true;
    }
    float* to = a.dx.ptr() + task * s.W * s.C;
    for (int w = 0; w < s.W; ++w, to += s.C)
      for (int c = 0; c < s.C; c += kWidth) {
        const int part = std::min(kWidth, s.C - c);
        vf total{};
        for (const Reach& r : columns[static_cast<size_t>(w)])
          total += r.weight * load_part(sum + int64_t(r.output) * s.C + c, part);
        store_part(to + c, total, part);
      }
  });
}

}  // namespace warploom::cpu
