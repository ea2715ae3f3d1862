// Convolution and its gradients; see kernels/args.h for the shape and for what may be folded in.
#pragma once

#include "kernels/args.h"

namespace warploom {

// sums: takes what Entry::rest() reads; dw and db, as far as they come of it, are empty then.
// prepared: the weights as Entry::preparation() of the same call makes them, or empty.
struct Conv2dForward {  // y = pool(activation(conv(upsample(x), w) + bias)); saved: whatever the backward entries want kept
  Conv2dShape s;
  Fusion fusion;
  In x, w, bias, prepared;
  Out y, saved;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.tensor("x", a.x, a.fusion.x_type, fused_x_count(a.s, a.fusion), false),
        v.tensor("w", a.w, DType::f32, a.s.w_count(), false);
    v.tensor("bias", a.bias, DType::f32, a.s.C_out, true),
        v.tensor("y", a.y, a.fusion.y_type, fused_y_count(a.s, a.fusion), false);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
    v.tensor("prepared", a.prepared, DType::u8, kEntryDecides, true);
  }
};

// Backward entries: dy is the gradient of the *fused* output. With an activation or pool folded in, `saved` is what the forward entry
// kept, and with an activation `y` is that output, for kernel sets that want it (OpTable::gradients_read_y). An entry that wants plain
// convolutions only refuses any fusion.
// Of the gradient of the input alone: x_activation, where it is given, is the activation whose output x is (relu or leaky_relu); dx is
// then the gradient before it. It may stand where x does, if stored alike: an element of x is read before that of dx is written.
struct Conv2dBackwardInput {
  Conv2dShape s;
  Fusion fusion;
  Activation x_activation = Activation::none;
  float x_slope = 0.0f;  // of leaky_relu
  In dy, w, y, saved, x, prepared;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.attr("x_activation", a.x_activation), v.attr("x_slope", a.x_slope);
    v.tensor("dy", a.dy, gradient_type(a.fusion.y_type), fused_y_count(a.s, a.fusion), false),
        v.tensor("w", a.w, DType::f32, a.s.w_count(), false);
    v.tensor("y", a.y, a.fusion.y_type, fused_y_count(a.s, a.fusion), true);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
    v.tensor("x", a.x, a.fusion.x_type, fused_x_count(a.s, a.fusion), true);
    v.tensor("prepared", a.prepared, DType::u8, kEntryDecides, true);
    v.tensor("dx", a.dx, gradient_type(a.fusion.x_type), fused_x_count(a.s, a.fusion), false);
  }
};
struct Conv2dBackwardWeight {  // dw = the sum over images and output pixels of dy times the input pixels that the tap meets
  Conv2dShape s;
  Fusion fusion;
  int with_db = 0;  // 1: db too, as conv2d_backward_bias has it
  In dy, x, y, saved;
  Out dw, db, sums;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.attr("with_db", a.with_db);
    v.tensor("dy", a.dy, gradient_type(a.fusion.y_type), fused_y_count(a.s, a.fusion), false);
    v.tensor("x", a.x, a.fusion.x_type, fused_x_count(a.s, a.fusion), false);
    v.tensor("y", a.y, a.fusion.y_type, fused_y_count(a.s, a.fusion), true);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
    v.tensor("dw", a.dw, DType::f32, a.s.w_count(), static_cast<bool>(a.sums));
    v.tensor("db", a.db, DType::f32, a.with_db ? a.s.C_out : 0, !a.with_db || a.sums);
    v.tensor("sums", a.sums, DType::u8, kEntryDecides, true);
  }
};
struct Conv2dBackwardBias {  // db[c] = sum of dy over N, OH, OW
  Conv2dShape s;
  Fusion fusion;
  In dy, y, saved;
  Out db;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.tensor("dy", a.dy, gradient_type(a.fusion.y_type), fused_y_count(a.s, a.fusion), false);
    v.tensor("y", a.y, a.fusion.y_type, fused_y_count(a.s, a.fusion), true);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
    v.tensor("db", a.db, DType::f32, a.s.C_out, false);
  }
};
struct Conv2dBackward {  // all gradients in one call, for kernel sets that share work between them; dx, db empty: not wanted
  Conv2dShape s;
  Fusion fusion;
  In dy, x, w, y, saved;
  Out dx, dw, db;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.tensor("dy", a.dy, gradient_type(a.fusion.y_type), fused_y_count(a.s, a.fusion), false);
    v.tensor("x", a.x, a.fusion.x_type, fused_x_count(a.s, a.fusion), false),
        v.tensor("w", a.w, DType::f32, a.s.w_count(), false);
    v.tensor("y", a.y, a.fusion.y_type, fused_y_count(a.s, a.fusion), true);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
    v.tensor("dx", a.dx, gradient_type(a.fusion.x_type), fused_x_count(a.s, a.fusion), true),
        v.tensor("dw", a.dw, DType::f32, a.s.w_count(), false);
    v.tensor("db", a.db, DType::f32, a.s.C_out, true);
  }
};

}  // namespace warploom
