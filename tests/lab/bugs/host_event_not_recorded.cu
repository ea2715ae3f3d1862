// The time between two events, one of which was never recorded.
int main() {
  cudaEvent_t from, to;
  float ms = 0;
  cudaEventCreate(&from);
  cudaEventCreate(&to);
  cudaEventRecord(from);
  cudaEventElapsedTime(&ms, from, to);  // BUG: event-not-recorded
  cudaEventDestroy(from);
  cudaEventDestroy(to);
}
