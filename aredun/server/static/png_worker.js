// Encodes a bitmap as PNG.

self.onmessage = async ({ data: bitmap }) => {
  const picture = new OffscreenCanvas(bitmap.width, bitmap.height);
  picture.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
  self.postMessage(await picture.convertToBlob({ type: "image/png" }));
};
