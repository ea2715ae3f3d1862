// More bytes than the constant has.
__constant__ float weights[8];
int main() {
  float h[9] = {};
  cudaMemcpyToSymbol(weights, h, sizeof(h));  // BUG: copy-bounds
}
