import { describe, expect, test } from "vitest";
import { PNG } from "../../test/permission-requests.ts";
import { imageTypeOf } from "./image-type.ts";

/** Start of image, a JFIF segment, end of image. */
const JPEG = Buffer.from("ffd8ffe000104a46494600010100000100010000ffd9", "hex");

function webp(chunk: string, size?: number): Buffer {
  const body = Buffer.concat([Buffer.from(`WEBP${chunk}`), Buffer.alloc(12)]);
  const head = Buffer.alloc(8);
  head.write("RIFF");
  head.writeUInt32LE(size ?? body.length, 4);
  return Buffer.concat([head, body]);
}

describe("what some bytes are", () => {
  test.each([
    ["image/png", PNG],
    ["image/jpeg", JPEG],
    ["image/webp", webp("VP8 ")],
    ["image/webp", webp("VP8L")],
    ["image/webp", webp("VP8X")],
  ])("%s", (type, bytes) => {
    expect(imageTypeOf(bytes)).toBe(type);
  });

  test.each([
    ["nothing", Buffer.alloc(0)],
    ["SVG", Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')],
    ["HTML", Buffer.from("<!doctype html><script>alert(1)</script>")],
    ["a GIF", Buffer.from("GIF89a")],
    ["a PNG's signature alone", PNG.subarray(0, 8)],
    ["a PNG without an end", PNG.subarray(0, -4)],
    ["a PNG with a script behind it", Buffer.concat([PNG, Buffer.from("<script>")])],
    ["a script with a PNG behind it", Buffer.concat([Buffer.from("<script>"), PNG])],
    ["a JPEG with a script behind it", Buffer.concat([JPEG, Buffer.from("<script>")])],
    ["a WebP that is longer than it says", Buffer.concat([webp("VP8 "), Buffer.from("<script>")])],
    [
      "a RIFF that is a sound",
      Buffer.concat([Buffer.from("RIFF"), Buffer.alloc(4), Buffer.from("WAVEfmt ")]),
    ],
    ["a WebP of an unknown kind", webp("EVIL")],
  ])("not an image: %s", (_, bytes) => {
    expect(imageTypeOf(bytes)).toBeUndefined();
  });
});
