// Rows with a pitch, copied in two dimensions.
__global__ void twice(char* data, size_t pitch, int width, int height) {
  for (int y = blockIdx.x; y < height; y += gridDim.x) {
    float* row = (float*)(data + y * pitch);
    if (threadIdx.x < width) row[threadIdx.x] *= 2;
  }
}
int main() {
  float h[5][30], *d;
  size_t pitch;
  for (int i = 0; i < 150; i++) h[i / 30][i % 30] = i;
  cudaMallocPitch(&d, &pitch, 30 * sizeof(float), 5);
  cudaMemcpy2D(d, pitch, h, 30 * sizeof(float), 30 * sizeof(float), 5, cudaMemcpyHostToDevice);
  twice<<<2, 32>>>((char*)d, pitch, 30, 5);
  cudaMemcpy2D(h, 30 * sizeof(float), d, pitch, 30 * sizeof(float), 5, cudaMemcpyDeviceToHost);
  cudaFree(d);
  int bad = 0;
  for (int i = 0; i < 150; i++) bad += h[i / 30][i % 30] != 2 * i;
  return bad;
}
