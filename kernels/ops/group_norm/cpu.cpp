// group_norm/cpu.cpp - group normalisation on the host: sums per channel and slice of positions in double, from them the groups'
// numbers, then one pass with a gain and an offset per channel of a sample.
#include <cmath>
#include <vector>

#include "../maps_cpu.h"
#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"
#include "preconditions.h"

namespace warploom::cpu {
namespace {

// Samples of positions x channels (NHWC) or of rows of a channel (NCHW), cut into slices of positions that a task owns.
struct GroupMap {
  int64_t N, C, inner, groups, per_group;
  bool nhwc;
  int64_t slice, slices;  // positions of a slice; slices of a sample (1 in NCHW, where tasks own channels)
  template <class Args>
  explicit GroupMap(const Args& a)
      : N(a.N),
        C(a.C),
        inner(a.inner),
        groups(a.groups),
        per_group(a.C / a.groups),
        nhwc(a.layout == Layout::nhwc || a.inner == 1) {
    slice = nhwc ? std::min(inner, std::max<int64_t>(1, kTaskElements / C)) : inner;
    slices = ceil_div(inner, slice);
  }
  double group_size() const { return static_cast<double>(per_group * inner); }
  int64_t padded() const { return round_up(C, kWidth); }  // a row of numbers per channel
};

// partial[n][slice][2][padded C] = sums over the slice of f's two terms; f(offset, n, row, c): of the vector there, whose numbers per
// channel stand at row + c (NHWC: of neighbouring channels; NCHW: all of channel c).
template <class F>
void channel_sums(const GroupMap& m, double* partial, F&& f) {
  const int64_t width = m.padded();
  if (m.nhwc) {
    parallel(m.N * m.slices, [&](int64_t task, int) {
      const int64_t image = task / m.slices, begin = task % m.slices * m.slice, end = std::min(m.inner, begin + m.slice);
      double* to = partial + task * 2 * width;
      for (int64_t c = 0; c < m.C; c += kWidth) {
        const int n = static_cast<int>(std::min<int64_t>(kWidth, m.C - c));
        vd first{}, second{};
        for (int64_t i = begin; i < end; ++i) {
          vd terms[2];
          f((image * m.inner + i) * m.C + c, n, image * width, c, terms);
          first += terms[0], second += terms[1];
        }
        std::memcpy(to + c, &first, sizeof(vd)), std::memcpy(to + width + c, &second, sizeof(vd));
      }
    });
    return;
  }
  parallel_blocks(m.N * m.C, std::max<int64_t>(1, kTaskElements / m.inner), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / m.C, c = row % m.C;
      double sums[2];
      sum_range<2>(0, m.inner, sums, [&](int64_t i, int n, vd* terms) { f(row * m.inner + i, n, image * width, c, terms); });
      partial[image * 2 * width + c] = sums[0], partial[image * 2 * width + width + c] = sums[1];
    }
  });
}

// use(offset, n, row, c) for every vector of the map, as above.
template <class Use>
void for_vectors_of(const GroupMap& m, Use&& use) {
  const int64_t width = m.padded();
  if (m.nhwc) {
    parallel(m.N * m.slices, [&](int64_t task, int) {
      const int64_t image = task / m.slices, begin = task % m.slices * m.slice, end = std::min(m.inner, begin + m.slice);
      for (int64_t i = begin; i < end; ++i)
        for (int64_t c = 0; c < m.C; c += kWidth)
          use((image * m.inner + i) * m.C + c, static_cast<int>(std::min<int64_t>(kWidth, m.C - c)), image * width, c);
    });
    return;
  }
  parallel_blocks(m.N * m.C, std::max<int64_t>(1, kTaskElements / m.inner), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < m.inner; i += kWidth)
        use(row * m.inner + i, static_cast<int>(std::min<int64_t>(kWidth, m.inner - i)), row / m.C * width, row % m.C);
  });
}

// The number per channel of a vector: of neighbouring channels, or one for all.
WL_INLINE vf numbers(bool nhwc, const float* row, int64_t c) { return nhwc ? load(row + c) : broadcast(row[c]); }

// Per sample and group: the sums over its channels and slices, each weighted by weight(c).
template <class Weight, class Use>
void for_groups(const GroupMap& m, const double* partial, Weight&& weight, Use&& use) {
  const int64_t width = m.padded();
  for (int64_t image = 0; image < m.N; ++image)
    for (int64_t g = 0; g < m.groups; ++g) {
      double first = 0.0, second = 0.0;
      for (int64_t s = 0; s < m.slices; ++s) {
        const double* from = partial + (image * m.slices + s) * 2 * width;
        for (int64_t c = g * m.per_group; c < (g + 1) * m.per_group; ++c)
          first += weight(c) * from[c], second += weight(c) * from[width + c];
      }
      use(image, g, first, second);
    }
}

struct GroupWorkspace {
  double* partial;
  float* rows[4];  // [N, padded C] each
  int64_t bytes;
  GroupWorkspace(const GroupMap& m, const InOut& memory) {
    Carver ws(memory);
    partial = ws.take<double>(m.N * m.slices * 2 * m.padded());
    for (float*& row : rows) row = ws.take(m.N * m.padded());
    bytes = ws.used();
  }
};
template <class Args>
int64_t workspace(const Args& a) {
  return GroupWorkspace(GroupMap(a), InOut{}).bytes;
}

void run_forward(const GroupNormForward& a, const Context& context) {
  const GroupMap m(a);
  if (m.N == 0) return;
  const GroupWorkspace ws(m, context.workspace);
  const float *x = a.x.ptr(), *gamma = a.gamma.ptr(), *beta = a.beta.ptr();
  float* y = a.y.ptr();
  channel_sums(m, ws.partial, [=](int64_t offset, int n, int64_t, int64_t, vd* terms) __attribute__((always_inline)) {
    widen(load_part(x + offset, n), terms[0]);
    terms[1] = terms[0] * terms[0];
  });
  float *centre = ws.rows[0], *gain = ws.rows[1], *shift = ws.rows[2];
  const int64_t width = m.padded();
  for_groups(
      m, ws.partial, [](int64_t) { return 1.0; },
      [&](int64_t image, int64_t g, double sum, double squares) {
        const double mean = sum / m.group_size(), variance = squares / m.group_size() - mean * mean;
        const float inv = static_cast<float>(1.0 / std::sqrt((variance < 0.0 ? 0.0 : variance) + static_cast<double>(a.eps)));
        if (a.mean) a.mean.ptr()[image * m.groups + g] = static_cast<float>(mean);
        if (a.inv_std) a.inv_std.ptr()[image * m.groups + g] = inv;
        for (int64_t c = g * m.per_group; c < (g + 1) * m.per_group; ++c) {
          centre[image * width + c] = static_cast<float>(mean);
          gain[image * width + c] = inv * (gamma ? gamma[c] : 1.0f);
          shift[image * width + c] = beta ? beta[c] : 0.0f;
        }
      });
  const bool nhwc = m.nhwc;
  for_vectors_of(m, [=](int64_t offset, int n, int64_t row, int64_t c) __attribute__((always_inline)) {
    const vf centred = load_part(x + offset, n) - numbers(nhwc, centre + row, c);
    store_part(y + offset, centred * numbers(nhwc, gain + row, c) + numbers(nhwc, shift + row, c), n);
  });
}

void run_backward(const GroupNormBackward& a, const Context& context) {
  const GroupMap m(a);
  const GroupWorkspace ws(m, context.workspace);
  const float *dy = a.dy.ptr(), *x = a.x.ptr(), *gamma = a.gamma.ptr();
  float *dx = a.dx.ptr(), *centre = ws.rows[0], *inv = ws.rows[1], *of_g = ws.rows[2], *of_product = ws.rows[3];
  const int64_t width = m.padded();
  for (int64_t image = 0; image < m.N; ++image)
    for (int64_t c = 0; c < m.C; ++c) {
      centre[image * width + c] = a.mean.ptr()[image * m.groups + c / m.per_group];
      inv[image * width + c] = a.inv_std.ptr()[image * m.groups + c / m.per_group];
    }
  const bool nhwc = m.nhwc;
  channel_sums(m, ws.partial, [=](int64_t offset, int n, int64_t row, int64_t c, vd* terms) __attribute__((always_inline)) {
    const vf normal = (load_part(x + offset, n) - numbers(nhwc, centre + row, c)) * numbers(nhwc, inv + row, c);
    vd wide;
    widen(load_part(dy + offset, n), terms[0]), widen(normal, wide);
    terms[1] = terms[0] * wide;
  });
  if (a.dgamma || a.dbeta)
    for (int64_t c = 0; c < m.C; ++c) {
      double sum = 0.0, product = 0.0;
      for (int64_t s = 0; s < m.N * m.slices; ++s)
        sum += ws.partial[s * 2 * width + c], product += ws.partial[s * 2 * width + width + c];
      if (a.dgamma) a.dgamma.ptr()[c] = static_cast<float>(product);
      if (a.dbeta) a.dbeta.ptr()[c] = static_cast<float>(sum);
    }
  if (!dx) return;
  for_groups(
      m, ws.partial, [=](int64_t c) { return gamma ? static_cast<double>(gamma[c]) : 1.0; },
      [&](int64_t image, int64_t g, double sum, double product) {
        for (int64_t c = g * m.per_group; c < (g + 1) * m.per_group; ++c) {
          of_g[image * width + c] = static_cast<float>(sum / m.group_size());
          of_product[image * width + c] = static_cast<float>(product / m.group_size());
        }
      });
  std::vector<float> gains(static_cast<size_t>(width), 1.0f);
  if (gamma) std::copy(gamma, gamma + m.C, gains.begin());
  const float* gain = gains.data();
  for_vectors_of(m, [=](int64_t offset, int n, int64_t row, int64_t c) __attribute__((always_inline)) {
    const vf scale = numbers(nhwc, inv + row, c);
    const vf normal = (load_part(x + offset, n) - numbers(nhwc, centre + row, c)) * scale;
    const vf g = load_part(dy + offset, n) * numbers(nhwc, gain, c);
    store_part(dx + offset, scale * (g - numbers(nhwc, of_g + row, c) - normal * numbers(nhwc, of_product + row, c)), n);
  });
}

}  // namespace

Entry<GroupNormForward> group_norm_forward() {
  return {run_forward, group_norm_error<GroupNormForward>, workspace<GroupNormForward>, nullptr};
}
Entry<GroupNormBackward> group_norm_backward() {
  return {run_backward, group_norm_error<GroupNormBackward>, workspace<GroupNormBackward>, nullptr};
}

}  // namespace warploom::cpu
