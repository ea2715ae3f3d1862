// A library with NCCL's symbols for tests without GPUs: numbers pass through files in $STUB_NCCL, every call is written to its log.
// $STUB_NCCL_FAIL names a call that returns ncclSystemError (2).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <unistd.h>
#include <vector>

namespace {
struct Operation {
  bool send;
  void* data;
  size_t count;
  int peer;
};
std::vector<Operation> waiting;
std::map<std::string, int> numbers;
int depth = 0, own = 0, everyone = 1;

std::string folder() { return std::getenv("STUB_NCCL"); }
int told(const char* name, long a = -1, long b = -1) {
  std::FILE* log = std::fopen((folder() + "/log-" + std::to_string(own)).c_str(), "a");
  std::fprintf(log, "%s %ld %ld\n", name, a, b);
  std::fclose(log);
  const char* fails = std::getenv("STUB_NCCL_FAIL");
  return fails && std::strcmp(fails, name) == 0 ? 2 : 0;
}
std::string file(const char* kind, int from, int to) {
  const std::string way = folder() + "/" + kind + "-" + std::to_string(from) + "-" + std::to_string(to);
  return way + "-" + std::to_string(numbers[way]++);
}
void write(const std::string& path, const void* data, size_t count) {
  std::FILE* f = std::fopen((path + ".part").c_str(), "wb");
  std::fwrite(data, 4, count, f);
  std::fclose(f);
  std::rename((path + ".part").c_str(), path.c_str());
}
void read(const std::string& path, void* data, size_t count) {
  while (access(path.c_str(), R_OK)) usleep(300);
  std::FILE* f = std::fopen(path.c_str(), "rb");
  if (std::fread(data, 4, count, f) != count) std::abort();  // sender and receiver do not agree about the count
  if (std::fgetc(f) != EOF) std::abort();
  std::fclose(f);
  unlink(path.c_str());
}
void finish() {
  for (const Operation& o : waiting)
    if (o.send) write(file("send", own, o.peer), o.data, o.count);
  for (const Operation& o : waiting)
    if (!o.send) read(file("send", o.peer, own), o.data, o.count);
  waiting.clear();
}
int queue(bool send, void* data, size_t count, int peer) {
  waiting.push_back({send, data, count, peer});
  if (!depth) finish();
  return 0;
}
}  // namespace

extern "C" {
struct ncclUniqueId {
  char internal[128];
};
int ncclGetVersion(int* version) {
  *version = 22803;
  return 0;
}
int ncclGetUniqueId(ncclUniqueId* id) {
  std::memset(id, 7, sizeof *id);
  return told("ncclGetUniqueId");
}
const char* ncclGetErrorString(int) { return "unhandled system error"; }
const char* ncclGetLastError(void*) { return ""; }
int ncclCommInitRank(void** communicator, int size, ncclUniqueId id, int rank) {
  own = rank, everyone = size;
  *communicator = &own;
  return id.internal[0] == 7 && id.internal[127] == 7 ? told("ncclCommInitRank", size, rank) : 4;
}
int ncclCommDestroy(void*) { return told("ncclCommDestroy"); }
int ncclGroupStart() { return depth++, told("ncclGroupStart"); }
int ncclGroupEnd() {
  if (--depth == 0) finish();
  return told("ncclGroupEnd");
}
int ncclSend(const void* data, size_t count, int type, int peer, void*, void*) {
  if (int code = told("ncclSend", long(count), peer)) return code;
  return type == 7 ? queue(true, const_cast<void*>(data), count, peer) : 4;
}
int ncclRecv(void* data, size_t count, int type, int peer, void*, void*) {
  if (int code = told("ncclRecv", long(count), peer)) return code;
  return type == 7 ? queue(false, data, count, peer) : 4;
}
#ifndef STUB_LACKS_ALLREDUCE
int ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, void*, void*) {
  if (int code = told("ncclAllReduce", long(count), operation)) return code;
  if (type != 7 || operation != 0) return 4;
  for (int rank = 0; rank < everyone; rank++)
    if (rank != own) write(file("sum", own, rank), from, count);
  std::vector<float> total(count), part(count);
  std::vector<float> mine(static_cast<const float*>(from), static_cast<const float*>(from) + count);
  for (int rank = 0; rank < everyone; rank++) {
    if (rank != own) read(file("sum", rank, own), part.data(), count);
    for (size_t i = 0; i < count; i++) total[i] += rank == own ? mine[i] : part[i];
  }
  std::memcpy(to, total.data(), 4 * count);
  return 0;
}
#endif
}
