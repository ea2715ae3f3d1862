#include "csrc/graph/pooling.h"

namespace warploom {

Pool2dShape PoolOp::shape(const Graph& g, const Node& n, int batch) {
  const Shape& x = g.shape(n.inputs[0]);
  const Ints kernel = n.attributes.sizes("kernel", 2, 2), stride = n.attributes.sizes("stride", 2, 2);
  Pool2dShape s;
  s.N = batch;
  s.C = narrow(x[0]), s.H = narrow(x[1]), s.W = narrow(x[2]);
  s.KH = narrow(kernel[0]), s.KW = narrow(kernel[1]);
  s.stride_h = narrow(stride[0]), s.stride_w = narrow(stride[1]);
  s.OH = (s.H - s.KH) / s.stride_h + 1;
  s.OW = (s.W - s.KW) / s.stride_w + 1;
  return s;
}

std::vector<Shape> PoolOp::infer(const Graph& g, const Node& n) const {
  if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
  const Shape& x = g.shape(n.inputs[0]);
  if (x.size() != 3) throw GraphError("needs an input of shape C x H x W, got " + to_text(x));
  const Ints kernel = n.attributes.sizes("kernel", 2, 2);
  if (x[1] < kernel[0] || x[2] < kernel[1])
    throw GraphError("its " + std::to_string(kernel[0]) + "x" + std::to_string(kernel[1]) +
                     " window does not fit into the input of " + std::to_string(x[1]) + "x" + std::to_string(x[2]));
  const Pool2dShape s = shape(g, n, 1);
  return {{s.C, s.OH, s.OW}};
}

Geometry PoolOp::geometry(const Graph& g, const Node& n) const {
  const Pool2dShape s = shape(g, n, 1);
  Geometry q;
  q.kernel[0] = s.KH, q.kernel[1] = s.KW, q.stride[0] = s.stride_h, q.stride[1] = s.stride_w;
  return q;
}

}  // namespace warploom
