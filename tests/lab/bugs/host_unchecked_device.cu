// A device that is not there, and nobody looks.
int main() {
  cudaSetDevice(7);  // BUG: unchecked-error
}
