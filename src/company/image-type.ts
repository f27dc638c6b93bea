/** What a logo can be. */
export type ImageType = "image/png" | "image/jpeg" | "image/webp";

/** The eight bytes of PNG (W3C PNG §5.2), then the header chunk: length 13, IHDR. */
const PNG = Buffer.from([
  0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
]);
/** Its last chunk, empty: length 0, IEND, CRC. */
const PNG_END = Buffer.from([
  0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
]);

/** Start of image and the first byte of a marker; end of image (ITU-T T.81 Annex B). */
const JPEG = Buffer.from([0xff, 0xd8, 0xff]);
const JPEG_END = Buffer.from([0xff, 0xd9]);

/** What may follow in a WebP file (RFC 9649 §2.4): lossy, lossless, extended. */
const WEBP_CHUNKS = ["VP8 ", "VP8L", "VP8X"];

/**
 * What kind of image some bytes are, by what they are and not by what somebody calls them; undefined for
 * anything else. The whole file has to be one: a beginning with something behind it is none.
 */
export function imageTypeOf(bytes: Buffer): ImageType | undefined {
  if (startsWith(bytes, PNG) && endsWith(bytes, PNG_END)) return "image/png";
  if (startsWith(bytes, JPEG) && endsWith(bytes, JPEG_END)) return "image/jpeg";
  return isWebp(bytes) ? "image/webp" : undefined;
}

/** RFC 9649 §2.4: RIFF, the size of what follows, WEBP, the first chunk. */
function isWebp(bytes: Buffer): boolean {
  return (
    bytes.length > 20 &&
    bytes.toString("latin1", 0, 4) === "RIFF" &&
    bytes.readUInt32LE(4) === bytes.length - 8 &&
    bytes.toString("latin1", 8, 12) === "WEBP" &&
    WEBP_CHUNKS.includes(bytes.toString("latin1", 12, 16))
  );
}

function startsWith(bytes: Buffer, part: Buffer): boolean {
  return bytes.subarray(0, part.length).equals(part);
}

function endsWith(bytes: Buffer, part: Buffer): boolean {
  return bytes.length >= part.length && bytes.subarray(-part.length).equals(part);
}
