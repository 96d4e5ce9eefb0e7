/**
 * What a scan configuration comes down to, in the words of the gate.
 */
export interface ScanConfigBindOutput {
  /**
   * Whose findings decide: `BASIC` or `ENHANCED`.
   */
  readonly scanType: string;

  /**
   * Whether a scan of our own may be needed, which only basic scanning allows.
   */
  readonly startScan: boolean;
}

/**
 * Choices for a gate that reads the findings of ECR's basic scanning.
 */
export interface BasicScanConfigOptions {
  /**
   * Requires that the registry is set to basic scanning, where a scan can be asked for.
   *
   * The gate itself starts no scan yet: the pipeline does, when an image is pushed to a repository that is scanned on
   * demand only. With `false` the findings of whichever scanner is in charge are taken.
   *
   * @default true
   */
  readonly startScan?: boolean;
}

/**
 * Whose findings decide about the image.
 */
export abstract class ScanConfig {
  /**
   * The findings of ECR's basic scanning decide.
   *
   * With `startScan` (the default) the registry has to be set to basic scanning.
   */
  public static basic(options: BasicScanConfigOptions = {}): ScanConfig {
    return new FixedScanConfig('BASIC', options.startScan ?? true);
  }

  /**
   * The findings of Amazon Inspector decide; the registry has to be set to enhanced scanning.
   *
   * Inspector scans by itself, on push or continuously: nobody can ask it for a scan, so there is no `startScan`.
   */
  public static enhanced(): ScanConfig {
    return new FixedScanConfig('ENHANCED', false);
  }

  /**
   * Says what this configuration comes down to; called once, by the verifier.
   */
  public abstract bind(): ScanConfigBindOutput;
}

class FixedScanConfig extends ScanConfig {
  constructor(private readonly scanType: string, private readonly startScan: boolean) {
    super();
  }

  public override bind(): ScanConfigBindOutput {
    return { scanType: this.scanType, startScan: this.startScan };
  }
}
