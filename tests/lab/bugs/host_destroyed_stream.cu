// A copy on a stream that is gone.
int main() {
  cudaStream_t stream;
  cudaStreamCreate(&stream);
  cudaStreamDestroy(stream);
  cudaStreamSynchronize(stream);  // BUG: invalid-handle
}
