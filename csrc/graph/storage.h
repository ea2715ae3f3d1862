// storage.h - which values of a graph a plan stores in 16 bits.
#pragma once

#include <vector>

#include "csrc/graph/graph.h"
#include "kernels/ops.h"

namespace warploom {

// Sets Value::type. In the 16 bits of the precision's operands stand the values between operations of which every one takes them so,
// forward and backward; in float32 the graph's inputs, `whole` (outputs, what losses read), and everything else.
void choose_storage(Graph& graph, const OpTable& table, Precision precision, int batch, bool training,
                    const std::vector<int>& whole);

}  // namespace warploom
