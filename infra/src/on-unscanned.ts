/**
 * What becomes of a deployment whose image the scanner cannot scan, as a distroless one or one made from scratch.
 */
export enum OnUnscanned {
  /** The deployment fails, and the message says why. */
  BLOCK = 'block',

  /** The deployment goes on with the verdict UNSCANNED, and whoever hears alerts is told. */
  WARN = 'warn',

  /** The deployment goes on with the verdict UNSCANNED. */
  ALLOW = 'allow',
}
