// Softmax cross-entropy per pixel with class weights and an ignored label, as PyTorch's CrossEntropyLoss.
// What every loss has: visit_loss in kernels/args.h.
#pragma once

#include "kernels/args.h"

namespace warploom {

// logits [outer, C, inner] (NCHW: N, C, H * W; NHWC: N * H * W, C, 1), labels [outer, inner]: class numbers as floats. With w_n the
// class weight of pixel n's label (1 without class_weight, 0 where the label is ignore_index): value = sum w_n * -log softmax(p_n)
// [label] / sum w_n. A label that is neither a class nor ignore_index makes the loss NaN. Where every label is ignored the loss and its
// gradient are 0 and nothing is added to total: such a batch counts for nothing (PyTorch's mean is NaN).
struct CrossEntropyLoss {
  int64_t outer = 0, C = 0, inner = 0;
  int ignore_index = -100;
  int samples = 0;
  float weight = 1.0f;
  In prediction, target, class_weight;
  Out grad, loss;
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("outer", a.outer), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("ignore_index", a.ignore_index);
    const int64_t count = elements(a.outer, a.C, a.inner);
    v.tensor("class_weight", a.class_weight, DType::f32, a.C, true);
    visit_loss(a, v, count, elements(a.outer, a.inner));
  }
};

}  // namespace warploom
