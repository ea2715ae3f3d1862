// session.h - a graph bound to a device and a version, with its parameters: what Python trains and predicts with.
//
// Plans are made per batch size and purpose, and the ones used last are kept; they share one arena, as large as the largest of them.
// Shards of a batch that meet in the middle of a step (synchronised batch norms) have a place each: an arena and gradients.
// After the first step
// of a kind nothing is allocated, and nothing waits for the device except where a number is asked for. Where the device can, the
// second step of a kind is recorded whole (a CUDA graph) and the steps after it are replays.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "csrc/core/recording.h"
#include "csrc/core/registry.h"
#include "csrc/train/buckets.h"
#include "csrc/train/optimizer.h"
#include "csrc/train/parameters.h"
#include "csrc/train/planner.h"

namespace warploom {

// A batch that becomes the network's input and its target on the device, by draws: see kernels/ops/augment_images.
struct Augmented {
  AugmentImages how;       // its switches and its key alone
  const int32_t* numbers;  // of the samples
  int32_t epoch;
};

struct HostBatch {  // one array from outside: [N, ...] float32, or uint8 to be scaled by 1/255
  const void* data;
  DType dtype;
  int batch;
  bool resident = false;                 // in the device's own memory: read in place, and left alone until synchronize()
  const Augmented* augmented = nullptr;  // an input from which the target is made too
};

class Session {
 public:
  Session(const Graph& graph, const std::string& device, const std::string& version, std::vector<LossSpec> losses,
          const OptimizerSpec& optimizer, Precision precision = Precision::fp32);

  const Graph& graph() const { return graph_; }
  const OpenDevice& target() const { return target_; }
  const OpTable& table() const { return table_; }
  Parameters& parameters() { return parameters_; }
  Optimizer& optimizer() { return optimizer_; }
  const std::vector<LossSpec>& losses() const { return losses_; }

  void allocate();                 // parameters and optimizer state; idempotent
  void initialize(uint64_t seed);  // the parameters, and what training steps draw
  const Plan& plan(const PlanRequest& request);
  void prepare(const PlanRequest& request);  // plan, allocate, bind: throws OutOfMemoryError here rather than in a step
  // places: of shards that meet, all of them together; 0: a step of its own.
  std::map<std::string, int64_t> memory(PlanRequest request, int places = 0);

  // The gradient's buckets of at most so many elements (0: one of all), in the order in which Ready tells of them.
  const std::vector<Bucket>& cut_buckets(int64_t elements);
  // Called within backward, each time that more buckets are final, with how many are. The rest of backward begins when it returns.
  using Ready = std::function<void(size_t)>;

  // Host data. targets empty: reconstruct the inputs. shard: which part of a larger batch this is; dropout draws by it. place: the
  // shard meets others, and the step ends where it is to wait for them first: it is one of those under way (below).
  void train_step(const std::vector<HostBatch>& inputs, const std::vector<HostBatch>& targets, bool update,
                  bool eval_mode = false, int64_t shard = 0, const Ready& ready = {}, int place = -1);
  void evaluate_step(const std::vector<HostBatch>& inputs, const std::vector<HostBatch>& targets);
  // Runs the plan and returns it; outputs are read by output().
  const Plan& predict(const std::vector<HostBatch>& inputs, const std::vector<int>& values);
  void output(const Plan& plan, size_t i, float* host);
  void copy_output(const Plan& plan, size_t i, void* to);  // into the device's memory, in stream order

  // Data that stays on the device (the targets are the inputs, or made from them by `augmentation`: its switches and its key).
  void load_data(const std::string& slot, const void* images, DType dtype, const Shape& shape, int64_t count,
                 bool resident = false, const AugmentImages* augmentation = nullptr);
  void drop_data(const std::string& slot);  // frees what load_data took; nothing where there is none
  void begin_epoch(const std::string& slot, const int32_t* order, int64_t rows, int32_t epoch = 0);
  void run_next(const std::string& slot, int batch, bool training, bool update = true, int64_t shard = 0, const Ready& ready = {},
                int place = -1);
  // Shards under way, by their places. Each reads its numbers, is given those of all shards, and goes on to the next meeting or the
  // end; then its gradients can be taken, place by place, to where update() finds them. Place 0 has no others.
  struct MeetingSize {
    int64_t count;  // f64
    bool backward;
  };
  std::vector<MeetingSize> meetings(PlanRequest request);  // in order; of any batch size the same ones
  void read_meeting(int place, double* numbers, int64_t count);
  void write_meeting(int place, const double* numbers, int64_t count);
  void go_on(int place);
  void take_gradients(int place);
  void update() { optimizer_.step(table_, parameters_); }  // by the gradients as they stand, one's own or those of all workers

  double last_loss();                           // of the last step, all losses together; waits
  std::vector<double> last_losses();            // each of them; waits
  std::pair<double, int64_t> take_mean_loss();  // waits
  void synchronize() { target_.device->synchronize(); }
  int64_t replays() const { return replays_; }  // steps, or pieces, that were one call of a recording
  const std::string& recording_failure() const { return recording_failure_; }  // why every step is made of calls; "" if it is not
  // Median milliseconds of each step of the training plan on the buffers as they are.
  std::vector<double> profile(const PlanRequest& request, int repeat);

 private:
  struct Bound {
    std::unique_ptr<Plan> plan;
    int generation = -1;              // of the arena it is bound to
    int64_t used = 0;                 // when it was asked for last, in calls
    std::vector<size_t> final_after;  // of its steps, by bucket; empty until it is asked for
  };
  struct Data {
    DeviceMemory images, order, cursor;  // cursor: i32[2], the second one the epoch
    DType dtype;
    Shape shape;
    int64_t count = 0, rows = 0, position = 0;
    int64_t generation = 0;  // of its buffers, never that of another
    std::optional<AugmentImages> augmentation;
  };

  // What a recording depends on besides its plan: memory that may move, and which calls an update makes.
  using RecordedUnder = std::tuple<int, int64_t, int64_t, bool>;
  struct Recorded {
    RecordedUnder under;
    Recording recording;  // empty after the first step
  };

  struct Place {
    DeviceMemory arena, gradients;  // gradients: of places that are not the first
    int generation = 0;             // of the arena, never that of another
  };
  struct UnderWay {
    PlanRequest request;
    std::string purpose;
    size_t meeting = 0, from = 0;  // the meeting it waits at; the step after it
  };

  PlanRequest training_request(int batch, bool targets_are_inputs, bool eval_mode, int64_t shard, int place,
                               bool gradients_early);
  Place& place_of(int place) { return places_[static_cast<size_t>(place + 1)]; }
  void open_place(int place);
  UnderWay& under_way(int place);                   // GraphError where none is
  const Buffer& waiting(int place, int64_t count);  // the buffer of the meeting it waits at, of so many numbers
  Bound& bound(const PlanRequest& request);         // valid until the next call of it
  void forget_oldest_plan();
  // Does `work`, which belongs to the plan and purpose, by replaying it where it has been recorded under the same conditions.
  // A device that fails to record is not asked again.
  bool record(Recorded& r, const std::function<void()>& work);
  void replay_or_run(const PlanRequest& request, const std::string& purpose, const Data* data, const std::function<void()>& work);
  static std::string piece_name(const std::string& purpose, size_t from, size_t to);  // of a recording
  void run(const Plan& plan, size_t from, size_t to);
  // Steps of the plan, all of them after `before` (which may be empty); with `ready` in pieces that end where buckets are final. Of a
  // shard that meets others those before the first meeting.
  void run_steps(const PlanRequest& request, const std::string& purpose, const Data* data, const std::function<void()>& before,
                 bool update, const Ready& ready);
  void run_step(const Step& step);
  const void* stage(const void* host, int64_t bytes, size_t staging);  // into device memory number `staging`
  void feed(const Plan& plan, Handle to, const Shape& shape, const HostBatch& batch, size_t staging);
  void feed_all(const Plan& plan, const std::vector<HostBatch>& inputs, const std::vector<HostBatch>& targets);
  void gather(const Plan& plan, Handle to, const Shape& shape, In images, int64_t images_count, DType dtype, In order,
              int64_t rows, In cursor);
  // `how`, whose switches and key are set, into the plan's input, and into its target where that differs.
  void augment(const Plan& plan, const Shape& shape, AugmentImages how, In images, int64_t images_count, DType dtype, In order,
               In numbers, int64_t rows, In cursor, In epoch);
  void feed_augmented(const Plan& plan, const HostBatch& batch);
  void check_augmentation(const AugmentImages& how, const Shape& shape, DType dtype);
  char* address(const Plan& plan, Handle h);

  Graph graph_;
  OpenDevice target_;
  const OpTable& table_;
  std::vector<LossSpec> losses_;
  Parameters parameters_;
  Optimizer optimizer_;
  Precision precision_;  // of every plan
  uint64_t seed_ = 0;    // of every training plan
  std::vector<Bucket> buckets_;
  std::map<PlanRequest, Bound> plans_;  // a bounded number of them
  int64_t uses_ = 0;
  std::vector<Place> places_{1};  // the first is that of steps of their own, which may come between those of shards under way
  std::map<int, UnderWay> under_way_;
  DeviceMemory loss_, staging_order_;
  std::vector<DeviceMemory> staging_;
  int generations_ = 0;  // of arenas
  std::map<std::string, Data> data_;
  std::map<std::pair<PlanRequest, std::string>, Recorded> recorded_;
  int64_t data_generation_ = 0;
  bool records_;
  int64_t replays_ = 0;
  std::string recording_failure_;
};

}  // namespace warploom
