#include "csrc/graph/pooling.h"

namespace warploom {

Pool2dShape PoolOp::shape(const Graph& g, const Node& n, int batch) {
  const Shape& x = g.shape(n.inputs[0]);
  const Ints kernel = n.attributes.list("kernel", 2, 2), stride = n.attributes.list("stride", 2, 2);
  Pool2dShape s;
  s.N = batch;
  s.C = static_cast<int>(x[0]), s.H = static_cast<int>(x[1]), s.W = static_cast<int>(x[2]);
  s.KH = static_cast<int>(kernel[0]), s.KW = static_cast<int>(kernel[1]);
  s.stride_h = static_cast<int>(stride[0]), s.stride_w = static_cast<int>(stride[1]);
  s.OH = (s.H - s.KH) / s.stride_h + 1;
  s.OW = (s.W - s.KW) / s.stride_w + 1;
  return s;
}

std::vector<Shape> PoolOp::infer(const Graph& g, const Node& n) const {
  if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
  const Shape& x = g.shape(n.inputs[0]);
  if (x.size() != 3) throw GraphError("needs an input of shape C x H x W, got " + to_text(x));
  const Ints kernel = n.attributes.list("kernel", 2, 2), stride = n.attributes.list("stride", 2, 2);
  for (const int64_t v : {kernel[0], kernel[1], stride[0], stride[1]})
    if (v < 1) throw GraphError("kernel and stride must be at least 1");
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
