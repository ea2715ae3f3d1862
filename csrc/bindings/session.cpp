// session.cpp - Session for Python: checks arrays, releases the GIL while the device works. Arrays in the session's own device
// memory are read in place; before a call returns that was given one, the device has finished with it. Long because all that Python
// asks of a session stands here.
#include "csrc/train/session.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <mutex>

#include "csrc/bindings/array.h"
#include "csrc/bindings/attributes.h"
#include "csrc/bindings/batches.h"
#include "csrc/bindings/bindings.h"
#include "csrc/bindings/constructor.h"
#include "csrc/bindings/native.h"
#include "csrc/core/names.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace py = pybind11;
namespace {

struct PySession {  // one call at a time: a session is not re-entrant
  PySession(const Graph& g, const std::string& device, const std::string& version, std::vector<LossSpec> losses,
            const OptimizerSpec& o, Precision precision)
      : session(g, device, version, std::move(losses), o, precision) {}
  Session session;
  std::recursive_mutex mutex;  // what `ready` calls may call the session
};

template <class F>
auto guarded(PySession& s, F&& work) {
  const NativeCall call;
  const NativeLock lock(s.mutex);
  return work(s.session);
}

std::vector<LossSpec> to_losses(const py::object& list) {
  std::vector<LossSpec> losses;
  if (list.is_none()) return losses;
  for (const auto& item : list) {
    const py::dict d = py::reinterpret_borrow<py::dict>(item);
    LossSpec l;
    for (const auto& entry : d) {
      const std::string key = entry.first.cast<std::string>();
      if (key == "kind")
        l.kind = entry.second.cast<std::string>();
      else if (key == "output")
        l.output = entry.second.cast<int>();
      else if (key == "target")
        l.target = entry.second.cast<int>();
      else if (key == "weight")
        l.weight = entry.second.cast<float>();
      else if (key == "sigmoid")
        l.sigmoid = entry.second.cast<bool>();
      else if (key == "mask")
        l.mask = entry.second.cast<int>();
      else if (key == "class_weight")
        l.class_weight = entry.second.cast<std::vector<float>>();
      else
        l.numbers[key] = entry.second.cast<double>();
    }
    check_loss(l);
    losses.push_back(l);
  }
  return losses;
}

OptimizerSpec to_optimizer(const py::object& o) {
  OptimizerSpec spec;
  if (o.is_none()) return spec;
  for (const auto& entry : o.cast<py::dict>()) {
    const std::string key = entry.first.cast<std::string>();
    if (key == "kind")
      spec.kind = entry.second.cast<std::string>();
    else
      spec.hyper[key] = entry.second.cast<double>();
  }
  return spec;
}

py::array to_array(const std::vector<float>& values, const Shape& shape) {
  py::array_t<float> a(std::vector<py::ssize_t>(shape.begin(), shape.end()));
  std::copy(values.begin(), values.end(), a.mutable_data());
  return a;
}

void check_whole(PySession& s) {
  if (s.session.optimizer().shared())
    throw GraphError("the optimizer's state is shared among workers: this one has a part of it");
}

const Shape& parameter_shape(const Session& s, int p) { return s.graph().parameters[static_cast<size_t>(p)].shape; }

py::array checked_parameter(const Session& s, int p, const py::handle& value) {
  const Parameter& info = s.graph().parameters[static_cast<size_t>(p)];
  py::array_t<float, py::array::c_style | py::array::forcecast> a =
      py::array_t<float, py::array::c_style | py::array::forcecast>::ensure(value);
  if (!a) {
    PyErr_Clear();
    throw py::type_error("'" + info.name + "' is not an array of numbers");
  }
  bool same = a.ndim() == static_cast<py::ssize_t>(info.shape.size());
  for (size_t k = 0; same && k < info.shape.size(); k++) same = a.shape(static_cast<py::ssize_t>(k)) == info.shape[k];
  if (!same)
    throw py::value_error("'" + info.name + "' must have the shape " + to_text(info.shape) + ", got " +
                          shape_text(Shape(a.shape(), a.shape() + a.ndim())));
  return a;
}

// A training plan for asking: the targets are the inputs where every loss compares an output with an input of its shape.
PlanRequest request_of(const PySession& self, int batch, bool training) {
  if (batch < 1) throw py::value_error("the batch size must be at least 1, got " + std::to_string(batch));
  const Graph& g = self.session.graph();
  bool reconstructs = training;
  if (training) {
    const std::vector<Shape> shapes = target_shapes(g, g.outputs, self.session.losses());
    for (size_t t = 0; t < shapes.size(); t++)
      reconstructs = reconstructs && t < g.inputs.size() && g.shape(g.inputs[t]) == shapes[t];
  }
  return PlanRequest{batch, training, training, reconstructs, false, Precision::fp32, 0, {}, -1};
}

py::list explain(PySession& self, int batch, bool training) {
  const PlanRequest request = request_of(self, batch, training);
  struct Told {  // taken down while the session is ours: another thread's call may drop the plan
    std::string entry, node, algorithm, along;
    bool backward;
    Fusion fusion;
    int64_t workspace, bytes;
  };
  const std::vector<Told> steps = guarded(self, [&](Session& s) {
    std::vector<Told> told;
    for (const auto& step : s.plan(request).steps) {
      int64_t bytes = 0;
      for (const auto& use : step->uses) bytes += use.second.bytes;
      told.push_back({step->entry, step->node, step->algorithm(), step->along, step->backward, step->fusion,
                      step->workspace_memory.bytes, bytes});
    }
    return told;
  });
  py::list list;
  for (const Told& step : steps) {
    py::dict d;
    d["entry"] = step.entry;
    d["node"] = step.node;
    d["backward"] = step.backward;
    d["version"] = self.session.table().version;
    py::dict f;
    f["activation"] = name_of(step.fusion.activation);
    f["pool"] = step.fusion.pool;
    f["upsample"] = step.fusion.upsample;
    f["x_type"] = name_of(step.fusion.x_type), f["y_type"] = name_of(step.fusion.y_type);
    d["fusion"] = f;
    d["algorithm"] = step.algorithm, d["along"] = step.along;
    d["workspace"] = step.workspace;
    d["bytes"] = step.bytes;
    list.append(d);
  }
  return list;
}

py::list buffers(PySession& self, int batch, bool training) {
  const PlanRequest request = request_of(self, batch, training);
  const std::vector<Buffer> buffers = guarded(self, [&](Session& s) { return s.plan(request).buffers; });
  py::list list;
  for (const Buffer& b : buffers)
    if (b.space == Space::arena && !b.part && b.parent == kNoBuffer && b.first_step >= 0)
      list.append(py::dict(py::arg("name") = b.name, py::arg("category") = name_of(b.category), py::arg("bytes") = b.bytes,
                           py::arg("dtype") = name_of(b.type), py::arg("offset") = b.offset, py::arg("first_step") = b.first_step,
                           py::arg("last_step") = b.last_step));
  return list;
}

// Where the outputs go: arrays of the session's device, checked.
std::vector<void*> output_places(PySession& s, const std::vector<int>& ids, int batch, const py::list& arrays) {
  std::vector<void*> places;
  if (arrays.size() != ids.size())
    throw py::value_error("out must hold " + std::to_string(ids.size()) + " array(s), not " + std::to_string(arrays.size()));
  for (size_t i = 0; i < ids.size(); i++) {
    const DeviceArray& a = on_device(arrays[i], s.session.target(), "out[" + std::to_string(i) + "]");
    Shape shape = {batch};
    for (const int64_t d : s.session.graph().shape(ids[i])) shape.push_back(d);
    if (a.shape != shape || std::string(a.type->name) != "float32" || !a.writable)
      throw py::value_error("out[" + std::to_string(i) + "] must be a writable float32 array of shape " + shape_text(shape));
    places.push_back(a.data);
  }
  return places;
}

// What the flat buffers of a session hold: "weights", "gradients", or a state of the optimizer; `count` elements of it from `first` on.
char* flat_range(Session& x, const std::string& space, int64_t first, int64_t count) {
  char* base = nullptr;
  const auto& states = x.optimizer().states();
  const auto found = std::find(states.begin(), states.end(), space);
  x.allocate();
  if (space == "weights")
    base = x.parameters().weights();
  else if (space == "gradients")
    base = x.parameters().gradients();
  else if (found != states.end() && !x.losses().empty())
    base = x.optimizer().state(static_cast<size_t>(found - states.begin()));
  if (!base) throw py::value_error("there is no flat buffer '" + space + "'");
  const bool state = found != states.end();
  const int64_t begin = state ? x.optimizer().first(x.parameters()) : 0;  // of a state's part
  const int64_t all = space == "weights" ? x.parameters().bytes() / 4
                      : state            ? x.optimizer().count(x.parameters())
                                         : x.parameters().trainable_count();
  if (first < begin || count > all || first - begin > all - count)
    throw py::value_error("elements " + std::to_string(first) + " to " + std::to_string(first + count) + " of '" + space +
                          "' do not exist: it has " + std::to_string(begin) + " to " + std::to_string(begin + all));
  return base + 4 * (first - begin);
}

// The session's own flat buffer as an array; it keeps the session.
py::object flat_array(const py::object& self, const std::string& space) {
  PySession& s = self.cast<PySession&>();
  auto a = std::make_unique<DeviceArray>();
  a->target = s.session.target();
  a->data = guarded(s, [&](Session& x) {
    return flat_range(x, space, space == "weights" || space == "gradients" ? 0 : x.optimizer().first(x.parameters()), 0);
  });
  a->type = &element_type(DType::f32);
  Parameters& p = s.session.parameters();
  a->shape = {space == "weights" ? p.bytes() / 4 : space == "gradients" ? p.trainable_count() : s.session.optimizer().count(p)};
  a->owner = std::shared_ptr<void>(new py::object(self), [](void* kept) {
    const py::gil_scoped_acquire lock;
    delete static_cast<py::object*>(kept);
  });
  return py::cast(std::move(a));
}

DeviceArray& device_array(PySession& s, const py::handle& h, const char* what) {
  const DeviceArray& a = on_device(h, s.session.target(), what);
  if (a.type != &element_type(DType::f32)) throw py::type_error(std::string(what) + " must be a float32 array");
  return const_cast<DeviceArray&>(a);
}

// a += b, and y = a * factor with `factor` an array of the same size: in the order of the device's work, without a wait. stream: of the
// device, for an addition beside that work; 0: its own.
void add_into(PySession& s, const py::handle& to, const py::handle& more, uintptr_t stream) {
  DeviceArray &a = device_array(s, to, "to"), &b = device_array(s, more, "more");
  if (a.size() != b.size()) throw py::value_error("the arrays must have the same size");
  if (a.size() == 0) return;
  guarded(s, [&](Session& x) {
    Add call;
    call.count = a.size();
    call.a = In{a.data, a.bytes()}, call.b = In{b.data, b.bytes()}, call.y = Out{a.data, a.bytes()};
    invoke(*x.target().device, x.table(), x.table().add, "add", call, {}, reinterpret_cast<void*>(stream));
  });
}
void multiply_into(PySession& s, const py::handle& to, const py::handle& from, const py::handle& by) {
  DeviceArray &y = device_array(s, to, "to"), &a = device_array(s, from, "from_"), &b = device_array(s, by, "by");
  if (y.size() != a.size() || y.size() != b.size()) throw py::value_error("the arrays must have the same size");
  if (a.size() == 0) return;
  guarded(s, [&](Session& x) {
    MultiplyForward call;
    call.outer = 1, call.C = 1, call.inner = a.size(), call.b_channels = 1;
    call.a = In{a.data, a.bytes()}, call.b = In{b.data, b.bytes()}, call.y = Out{y.data, y.bytes()};
    invoke(*x.target().device, x.table(), x.table().multiply_forward, "multiply_forward", call);
  });
}

// `f` outlives the call. It is called in the middle of a step, with the session still locked by this thread.
Session::Ready to_ready(const py::object& f, bool update) {
  if (f.is_none()) return {};
  if (update) throw py::value_error("ready is for a step without an update");
  return [&f](size_t buckets) {
    const NativeCallback python;
    f(buckets);
  };
}

constexpr int kMostPlaces = 4096;

void check_place(int place, bool update, const py::object& ready) {
  if (place < 0) return;
  if (place >= kMostPlaces) throw py::value_error("a shard's place is below " + std::to_string(kMostPlaces));
  if (update || !ready.is_none()) throw py::value_error("a shard that meets others has neither an update nor ready");
}

using FlatArray = py::array_t<float, py::array::c_style>;
using Numbers = py::array_t<double, py::array::c_style>;

void bind_meetings(py::class_<PySession>& c) {
  c.def("meetings",
        [](PySession& s) {
          py::list list;
          const PlanRequest r = request_of(s, 1, true);
          for (const Session::MeetingSize& m : guarded(s, [&](Session& x) { return x.meetings(r); }))
            list.append(py::make_tuple(m.count, m.backward));
          return list;
        })
      .def(
          "read_meeting",
          [](PySession& s, int place, Numbers out) {
            double* to = out.mutable_data();
            const int64_t count = out.size();
            guarded(s, [&](Session& x) { x.read_meeting(place, to, count); });
          },
          py::arg("place"), py::arg("out").noconvert())
      .def(
          "write_meeting",
          [](PySession& s, int place, const Numbers& numbers) {
            const double* from = numbers.data();
            const int64_t count = numbers.size();
            guarded(s, [&](Session& x) { x.write_meeting(place, from, count); });
          },
          py::arg("place"), py::arg("numbers").noconvert())
      .def(
          "go_on", [](PySession& s, int place) { guarded(s, [&](Session& x) { x.go_on(place); }); }, py::arg("place"))
      .def(
          "take_gradients", [](PySession& s, int place) { guarded(s, [&](Session& x) { x.take_gradients(place); }); },
          py::arg("place"));
}

void bind_shards(py::class_<PySession>& c) {
  c.def("update", [](PySession& s) { guarded(s, [](Session& x) { x.update(); }); })
      .def("parameter_layout",
           [](PySession& s) {
             py::list list;
             for (const Parameter& p : s.session.graph().parameters) {
               const int64_t first = s.session.parameters().offset_bytes(s.session.parameters().find(p.name)) / 4;
               list.append(py::make_tuple(p.name, first, count_of(p.shape), p.trainable, p.buffer));
             }
             return list;
           })
      .def("flat_array", &flat_array, py::arg("space"))
      .def("add_into", &add_into, py::arg("to"), py::arg("more"), py::arg("stream") = 0)
      .def(
          "cut_buckets",
          [](PySession& s, int64_t elements) {
            py::list list;
            for (const Bucket& b : guarded(s, [&](Session& x) { return x.cut_buckets(elements); }))
              list.append(py::make_tuple(b.first, b.count));
            return list;
          },
          py::arg("elements"))
      .def("multiply_into", &multiply_into, py::arg("to"), py::arg("from_"), py::arg("by"))
      .def_property_readonly("steps", [](PySession& s) { return guarded(s, [](Session& x) { return x.optimizer().steps(); }); })
      .def_property_readonly("state_range",
                             [](PySession& s) {
                               const Parameters& p = s.session.parameters();
                               const int64_t first = s.session.optimizer().first(p);
                               return py::make_tuple(first, first + s.session.optimizer().count(p));
                             })
      .def(
          "get_from",
          [](PySession& s, const std::string& space, const std::string& name) {
            const int p = s.session.parameters().find(name);
            const auto values = guarded(s, [&](Session& x) { return x.parameters().get(p, flat_range(x, space, 0, 0)); });
            return to_array(values, parameter_shape(s.session, p));
          },
          py::arg("space"), py::arg("name"))
      .def(
          "set_in",
          [](PySession& s, const std::string& space, const std::string& name, const py::object& value) {
            const int p = s.session.parameters().find(name);
            const py::array a = checked_parameter(s.session, p, value);
            const auto* data = static_cast<const float*>(a.data());
            guarded(s, [&](Session& x) { x.parameters().set(p, data, flat_range(x, space, 0, 0)); });
          },
          py::arg("space"), py::arg("name"), py::arg("value"))
      .def_property_readonly("trainable_count", [](PySession& s) { return s.session.parameters().trainable_count(); })
      .def_property_readonly("state_names", [](PySession& s) { return s.session.optimizer().states(); })
      .def(
          "read_flat",
          [](PySession& s, const std::string& space, int64_t first, FlatArray out) {
            float* to = out.mutable_data();
            const int64_t count = out.size();
            guarded(s, [&](Session& x) { x.target().device->copy_out(to, flat_range(x, space, first, count), 4 * count); });
          },
          py::arg("space"), py::arg("first"), py::arg("out").noconvert())
      .def(
          "write_flat",
          [](PySession& s, const std::string& space, int64_t first, const FlatArray& values) {
            const float* from = values.data();
            const int64_t count = values.size();
            guarded(s, [&](Session& x) { x.target().device->copy_in(flat_range(x, space, first, count), from, 4 * count); });
          },
          py::arg("space"), py::arg("first"), py::arg("values").noconvert());
}

}  // namespace

void bind_session(py::module_& m) {
  py::class_<AugmentedBatch>(m, "AugmentedBatch")
      .def("__init__",
           constructor(
               +[](py::object images, py::array_t<int32_t, py::array::c_style> numbers, int32_t epoch, const py::dict& changes) {
                 return std::make_unique<AugmentedBatch>(std::move(images), std::move(numbers), epoch, changes);
               }),
           is_constructor(), py::arg("images"), py::arg("numbers"), py::arg("epoch"), py::arg("changes"))
      .def("__len__", [](const AugmentedBatch& b) { return b.numbers.size(); });
  py::class_<PySession> session(m, "Session");
  bind_shards(session);
  bind_meetings(session);
  session
      .def("__init__",
           constructor(+[](const Graph& g, const std::string& device, const std::string& version, const py::object& losses,
                           const py::object& optimizer, const std::string& precision, uint64_t seed, bool allocate,
                           std::pair<int, int> part) {
             auto s = std::make_unique<PySession>(g, device, version, to_losses(losses), to_optimizer(optimizer),
                                                  parse<Precision>(precision));
             if (part.second > 1) s->session.optimizer().keep_part(part.first, part.second);
             if (allocate) s->session.initialize(seed);
             return s;
           }),
           is_constructor(), py::arg("graph"), py::arg("device"), py::arg("version"), py::kw_only(),
           py::arg("losses") = py::none(), py::arg("optimizer") = py::none(), py::arg("precision") = "fp32", py::arg("seed") = 0,
           py::arg("allocate") = true, py::arg("part") = std::pair<int, int>(0, 1))
      .def_property_readonly("device", [](const PySession& s) { return s.session.target().name; })
      .def_property_readonly("version", [](PySession& s) { return std::string(s.session.table().version); })
      .def(
          "initialize", [](PySession& s, uint64_t seed) { guarded(s, [&](Session& x) { x.initialize(seed); }); }, py::arg("seed"))
      .def(
          "prepare",
          [](PySession& s, int batch, bool training) {
            const PlanRequest r = request_of(s, batch, training);
            guarded(s, [&](Session& x) { x.prepare(r); });
          },
          py::arg("batch"), py::arg("training"))
      .def(
          "memory",
          [](PySession& s, int batch, bool training, int places) {
            const PlanRequest r = request_of(s, batch, training);
            return guarded(s, [&](Session& x) { return x.memory(r, places); });
          },
          py::arg("batch"), py::arg("training"), py::arg("places") = 0)
      .def("explain", &explain, py::arg("batch"), py::arg("training"))
      .def("buffers", &buffers, py::arg("batch"), py::arg("training"))
      .def(
          "refusals",
          [](PySession& s, int batch, bool training) {
            const PlanRequest r = request_of(s, batch, training);
            return guarded(s, [&](Session& x) { return x.plan(r).refusals; });
          },
          py::arg("batch"), py::arg("training"))
      .def("set_optimizer",
           [](PySession& s, const py::kwargs& hyper) {
             for (const auto& h : hyper) {
               const std::string name = h.first.cast<std::string>();
               const double value = h.second.cast<double>();
               guarded(s, [&](Session& x) { x.optimizer().set_hyper(name, value); });
             }
           })
      .def(
          "train_step",
          [](PySession& s, const py::list& inputs, const py::list& targets, bool update, int64_t shard, const py::object& ready,
             int place) {
            const Batches b(s.session, inputs, targets);
            const Session::Ready told = to_ready(ready, update);
            check_place(place, update, ready);
            guarded(s, [&](Session& x) {
              x.train_step(b.inputs, b.targets, update, false, shard, told, place);
              if (b.borrowed()) x.synchronize();
            });
          },
          py::arg("inputs"), py::arg("targets"), py::arg("update") = true, py::arg("shard") = 0, py::arg("ready") = py::none(),
          py::arg("place") = -1)
      .def("loss", [](PySession& s) { return guarded(s, [](Session& x) { return x.last_loss(); }); })
      .def("losses", [](PySession& s) { return guarded(s, [](Session& x) { return x.last_losses(); }); })
      .def("gradient_norm", [](PySession& s) { return guarded(s, [](Session& x) { return x.optimizer().last_norm(); }); })
      .def("target_shapes",
           [](const PySession& s) {
             py::list list;
             for (const Shape& shape : target_shapes(s.session.graph(), s.session.graph().outputs, s.session.losses()))
               list.append(py::tuple(py::cast(shape)));
             return list;
           })
      .def("take_mean_loss", [](PySession& s) { return guarded(s, [](Session& x) { return x.take_mean_loss(); }); })
      .def(
          "gradients",
          [](PySession& s, const py::list& inputs, const py::list& targets, bool eval_mode) {
            const Batches b(s.session, inputs, targets);
            const auto& list = s.session.graph().parameters;
            std::vector<std::vector<float>> values(list.size());
            guarded(s, [&](Session& x) {  // in one go, as in predict
              x.train_step(b.inputs, b.targets, false, eval_mode);
              for (size_t p = 0; p < list.size(); p++)
                if (list[p].trainable) values[p] = x.parameters().get(static_cast<int>(p), x.parameters().gradients());
            });
            py::dict d;
            for (size_t p = 0; p < list.size(); p++)
              if (list[p].trainable) d[list[p].name.c_str()] = to_array(values[p], list[p].shape);
            return d;
          },
          py::arg("inputs"), py::arg("targets"), py::arg("eval_mode") = false)
      .def(
          "evaluate_step",
          [](PySession& s, const py::list& inputs, const py::list& targets) {
            const Batches b(s.session, inputs, targets);
            guarded(s, [&](Session& x) {
              x.evaluate_step(b.inputs, b.targets);
              if (b.borrowed()) x.synchronize();
            });
          },
          py::arg("inputs"), py::arg("targets"))
      .def(
          "predict",
          [](PySession& s, const py::list& inputs, const std::optional<std::vector<int>>& values, const py::object& out_arrays) {
            const Batches b(s.session, inputs, py::list());
            const std::vector<int> wanted = values.value_or(std::vector<int>());
            for (const int v : wanted)
              if (v < 0 || v >= static_cast<int>(s.session.graph().values.size()))
                throw GraphError("value " + std::to_string(v) + " is not in the graph");
            py::list out;  // filled before the session is let go: another thread's call would overwrite the outputs
            const auto& ids = wanted.empty() ? s.session.graph().outputs : wanted;
            if (!out_arrays.is_none()) {
              const auto places = output_places(s, ids, b.inputs[0].batch, out_arrays.cast<py::list>());
              guarded(s, [&](Session& x) {
                const Plan& plan = x.predict(b.inputs, wanted);
                for (size_t i = 0; i < places.size(); i++) x.copy_output(plan, i, places[i]);
                x.synchronize();
              });
              return out_arrays.cast<py::list>();
            }
            std::vector<float*> places;
            for (size_t i = 0; i < ids.size(); i++) {
              std::vector<py::ssize_t> shape = {b.inputs[0].batch};
              for (const int64_t d : s.session.graph().shape(ids[i])) shape.push_back(d);
              py::array_t<float> a(shape);
              places.push_back(a.mutable_data());
              out.append(a);
            }
            guarded(s, [&](Session& x) {
              const Plan& plan = x.predict(b.inputs, wanted);
              for (size_t i = 0; i < places.size(); i++) x.output(plan, i, places[i]);
            });
            return out;
          },
          py::arg("inputs"), py::arg("values") = py::none(), py::arg("out") = py::none())
      .def(
          "load_data",
          [](PySession& s, const std::string& slot, const py::object& images, const std::optional<py::dict>& augmentation) {
            const Shape given = shape_of(images, "images");
            if (!given.empty() && given[0] > 0) rows_of(given[0], "images");
            const Source a = source_of(images, s.session.target(), "images");
            if (a.shape.size() < 2) throw py::value_error("images must have the shape (M, C, H, W), got " + shape_text(a.shape));
            AugmentImages how;
            if (augmentation) how = read_attributes<AugmentImages>(*augmentation, "augmented images");
            guarded(s, [&](Session& x) {
              x.load_data(slot, a.data, a.dtype, {a.shape.begin() + 1, a.shape.end()}, a.shape[0], a.resident,
                          augmentation ? &how : nullptr);
            });
          },
          py::arg("slot"), py::arg("images"), py::arg("augmentation") = py::none())
      .def(
          "begin_epoch",
          [](PySession& s, const std::string& slot, const py::array_t<int32_t, py::array::c_style>& order, int32_t epoch) {
            // Ours from here on: it is checked and then read again, while other threads may write to the array.
            const std::vector<int32_t> own(order.data(), order.data() + order.size());
            guarded(s, [&](Session& x) { x.begin_epoch(slot, own.data(), static_cast<int64_t>(own.size()), epoch); });
          },
          py::arg("slot"), py::arg("order"), py::arg("epoch") = 0)
      .def(
          "train_next",
          [](PySession& s, int count, const std::string& slot, bool update, int64_t shard, const py::object& ready, int place) {
            const Session::Ready told = to_ready(ready, update);
            check_place(place, update, ready);
            guarded(s, [&](Session& x) { x.run_next(slot, count, true, update, shard, told, place); });
          },
          py::arg("count"), py::arg("slot") = "train", py::arg("update") = true, py::arg("shard") = 0,
          py::arg("ready") = py::none(), py::arg("place") = -1)
      .def(
          "evaluate_next",
          [](PySession& s, int count, const std::string& slot) {
            guarded(s, [&](Session& x) { x.run_next(slot, count, false); });
          },
          py::arg("count"), py::arg("slot") = "test")
      .def(
          "drop_data", [](PySession& s, const std::string& slot) { guarded(s, [&](Session& x) { x.drop_data(slot); }); },
          py::arg("slot"))
      .def_property_readonly("replays", [](PySession& s) { return guarded(s, [](Session& x) { return x.replays(); }); })
      .def_property_readonly("recording_failure",
                             [](PySession& s) { return guarded(s, [](Session& x) { return x.recording_failure(); }); })
      .def("synchronize", [](PySession& s) { guarded(s, [](Session& x) { x.synchronize(); }); })
      .def(
          "get_parameter",
          [](PySession& s, const std::string& name) {
            const int p = s.session.parameters().find(name);
            const auto values = guarded(s, [&](Session& x) { return x.parameters().get(p, x.parameters().weights()); });
            return to_array(values, parameter_shape(s.session, p));
          },
          py::arg("name"))
      .def(
          "set_parameter",
          [](PySession& s, const std::string& name, const py::object& value) {
            const int p = s.session.parameters().find(name);
            const py::array a = checked_parameter(s.session, p, value);
            const auto* data = static_cast<const float*>(a.data());
            guarded(s, [&](Session& x) { x.parameters().set(p, data, x.parameters().weights()); });
          },
          py::arg("name"), py::arg("value"))
      .def("optimizer_state",
           [](PySession& s) {
             py::dict d;
             const auto& list = s.session.graph().parameters;
             const auto& states = s.session.optimizer().states();
             if (!states.empty()) check_whole(s);
             for (size_t i = 0; i < states.size() && !s.session.losses().empty(); i++)
               for (size_t p = 0; p < list.size(); p++) {
                 if (!list[p].trainable) continue;
                 const auto values =
                     guarded(s, [&](Session& x) { return x.parameters().get(static_cast<int>(p), x.optimizer().state(i)); });
                 d[(states[i] + "/" + list[p].name).c_str()] = to_array(values, list[p].shape);
               }
             if (!s.session.losses().empty()) {
               py::array_t<int32_t> steps(1);
               steps.mutable_at(0) = guarded(s, [](Session& x) { return x.optimizer().steps(); });
               d["step"] = steps;
             }
             return d;
           })
      .def(
          "set_optimizer_state",
          [](PySession& s, const py::dict& state) {
            for (const auto& item : state) {
              const std::string key = item.first.cast<std::string>();
              if (key == "step") {
                const auto steps = py::array_t<int32_t, py::array::c_style | py::array::forcecast>::ensure(item.second);
                if (!steps || steps.size() != 1 || *steps.data() < 0)
                  throw GraphError("the optimizer's 'step' must be one number that is not negative");
                const int32_t n = *steps.data();
                guarded(s, [&](Session& x) { x.optimizer().set_steps(n); });
                continue;
              }
              check_whole(s);
              const size_t slash = key.find('/');
              const auto& states = s.session.optimizer().states();
              size_t i = 0;
              while (i < states.size() && states[i] != key.substr(0, slash)) i++;
              if (slash == std::string::npos || i == states.size())
                throw GraphError("the optimizer keeps no state '" + key + "'");
              const int p = s.session.parameters().find(key.substr(slash + 1));
              const py::array a = checked_parameter(s.session, p, item.second);
              const auto* data = static_cast<const float*>(a.data());
              guarded(s, [&](Session& x) { x.parameters().set(p, data, x.optimizer().state(i)); });
            }
          },
          py::arg("state"))
      .def(
          "profile_step",
          [](PySession& s, int batch, int repeat) {
            const PlanRequest r = request_of(s, batch, true);
            const auto times = guarded(s, [&](Session& x) { return x.profile(r, repeat); });
            py::list list = explain(s, batch, true);
            for (size_t i = 0; i < times.size(); i++) list[i]["milliseconds"] = times[i];
            return list;
          },
          py::arg("batch"), py::arg("repeat"));
}

}  // namespace warploom
