// The allocation fails, and nobody looks.
int main() {
  float* d;
  cudaMalloc(&d, 1ull << 50);  // BUG: unchecked-error
}
