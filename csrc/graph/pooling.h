// pooling.h - what all pools share: windows without padding, floor; attributes: kernel [h, w], stride [h, w].
#pragma once

#include "csrc/graph/op.h"
#include "kernels/args.h"

namespace warploom {

class PoolOp : public OpDef {
 public:
  std::vector<Shape> infer(const Graph& graph, const Node& node) const override;
  Geometry geometry(const Graph& graph, const Node& node) const override;

 protected:
  static Pool2dShape shape(const Graph& graph, const Node& node, int batch);
};

}  // namespace warploom
