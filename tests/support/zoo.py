"""Every convolution of the model zoo at its real size, one a line: layer C_in C_out kernel stride pad input-size [groups].

A transposed convolution stands here as the convolution whose input gradient it is, a linear layer as a 1x1 kernel on one pixel,
an SSIM window as the depthwise convolution that it is. The number after a model's name is its batch size.
"""

TABLE = """
cifar10 64
  conv1 3 256 3 1 1 32
  conv2 256 128 3 1 1 16
  conv3 128 128 3 1 1 8
  conv4 128 256 3 1 1 16
  conv5 256 3 3 1 1 32
liae 4
  down1 3 64 5 2 2 256
  down2 64 128 5 2 2 128
  down3 128 256 5 2 2 64
  down4 256 512 5 2 2 32
  dense1 131072 256 1 1 0 1
  dense2 256 32768 1 1 0 1
  inter 512 2048 3 1 1 8
  up1 1024 2048 3 1 1 16
  res1 512 512 3 1 1 32
  up2 512 1024 3 1 1 32
  res2 256 256 3 1 1 64
  up3 256 512 3 1 1 64
  res3 128 128 3 1 1 128
  image 128 3 3 1 1 128
  mask1 1024 704 3 1 1 16
  mask2 176 352 3 1 1 32
  mask3 88 176 3 1 1 64
  mask4 44 88 3 1 1 128
  mask 22 1 1 1 0 256
  ssim11 3 3 11 1 0 256 3
  ssim22 3 3 22 1 0 256 3
unet_small 32
  enc1 3 4 3 1 1 128
  enc2 4 8 3 1 1 64
  enc3 8 32 3 1 1 32
  bneck 32 64 3 1 1 16
  upconv3 32 64 3 2 1 32
  dec3 64 32 3 1 1 32
  upconv2 8 32 3 2 1 64
  dec2 16 8 3 1 1 64
  upconv1 4 8 3 2 1 128
  dec1 8 16 3 1 1 128
  conv 16 32 1 1 0 128
unet_large 32
  prep0 3 64 1 1 0 88
  prep1 64 64 1 1 0 88
  prep2 64 32 1 1 0 88
  enc1 32 8 3 1 1 88
  enc2 8 28 3 1 1 44
  enc3 28 56 3 1 1 24
  bneck 56 112 3 1 1 16
  upconv3 56 112 3 2 1 24
  dec3 112 56 3 1 1 24
  upconv2 28 56 3 2 1 44
  dec2 56 28 3 1 1 44
  upconv1 8 28 3 2 1 88
  dec1 16 48 3 1 1 88
  dec0 48 64 3 1 1 88
  conv 64 256 1 1 0 88
gray 16
  enc1 1 64 4 2 1 256
  enc2 64 128 4 2 1 128
  enc3 128 256 4 2 1 64
  enc4 256 64 4 2 1 32
  dec1 256 64 4 2 1 32
  dec2 128 256 4 2 1 64
  dec3 64 128 4 2 1 128
  dec4 1 64 4 2 1 256
  dec2_skips 128 512 4 2 1 64
  dec3_skips 64 256 4 2 1 128
  dec4_skips 1 128 4 2 1 256
  enc2_groups 64 128 4 2 1 128 2
  enc3_groups 128 256 4 2 1 64 2
  dec2_groups 128 256 4 2 1 64 2
  residual64 64 64 3 1 1 128
  residual128 128 128 3 1 1 64
  residual256 256 256 3 1 1 32
dsresnet 16
  enc1a 3 16 3 1 1 224
  enc1b 16 16 3 1 1 224
  enc1s 3 16 1 1 0 224
  enc2a 16 32 3 1 1 112
  enc2b 32 32 3 1 1 112
  enc2s 16 32 1 1 0 112
  join 64 32 1 1 0 56
  enc3a 32 64 3 1 1 56
  enc3b 64 64 3 1 1 56
  enc3s 32 64 1 1 0 56
  enc4a 64 128 3 1 1 28
  enc4b 128 128 3 1 1 28
  enc4s 64 128 1 1 0 28
  enc5a 128 256 3 1 1 14
  enc5b 256 256 3 1 1 14
  enc5s 128 256 1 1 0 14
  enc6a 256 512 3 1 1 7
  enc6b 512 512 3 1 1 7
  enc6s 256 512 1 1 0 7
  dec1x 512 256 1 1 0 14
  dec1a 512 256 3 1 1 14
  dec2x 256 128 1 1 0 28
  dec2a 256 128 3 1 1 28
  dec3x 128 64 1 1 0 56
  dec3a 128 64 3 1 1 56
  dec4x 64 32 1 1 0 112
  dec4a 64 32 3 1 1 112
  dec5x 32 16 1 1 0 224
  dec5a 32 16 3 1 1 224
  head 16 1 1 1 0 224
"""


def rows() -> list[tuple[str, int, list[int]]]:
    """(model.layer, batch size, [C_in, C_out, kernel, stride, pad, input size, groups]) of every line."""
    found, model, batch = [], "", 0
    for line in TABLE.strip().splitlines():
        name, *numbers = line.split()
        if not line.startswith(" "):
            model, batch = name, int(numbers[0])
            continue
        found.append((f"{model}.{name}", batch, [int(n) for n in numbers] + [1] * (7 - len(numbers))))
    return found
