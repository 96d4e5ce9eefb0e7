// What an image is called: by a digest, or by a tag.

/** Whatever begins so is taken for a digest; whether it is one, the function says. */
export function isDigest(imageTag: string): boolean {
  return imageTag.startsWith('sha256:');
}
