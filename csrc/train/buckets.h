// buckets.h - the flat gradient in pieces: each can be sent to other workers while backward goes on with the layers before it.
#pragma once

#include <cstddef>
#include <vector>

#include "csrc/graph/plan.h"
#include "csrc/train/parameters.h"

namespace warploom {

struct Bucket {
  int64_t first = 0, count = 0;  // elements of the flat gradient
};

// Of at most `elements` each (0: one of all), from the end of the buffer: a graph's parameters stand in the order of their first
// use, which is the other way round that in which backward finishes them. The order is the same on every worker, whatever its
// plans are.
std::vector<Bucket> make_buckets(const Parameters& parameters, int64_t elements);

// By bucket: after how many of the plan's steps it is final, and those before it in the list too.
std::vector<size_t> final_after(const Plan& plan, const Parameters& parameters, const std::vector<Bucket>& buckets);

}  // namespace warploom
