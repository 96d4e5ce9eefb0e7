/**
 * What a scan configuration comes down to, in the words of the gate.
 */
export interface ScanConfigBindOutput {
  /**
   * Whose findings decide: `BASIC` or `ENHANCED`.
   */
  readonly scanType: string;

  /**
   * Whether the gate asks ECR for a scan of an image that has none.
   */
  readonly startScan: boolean;
}

/**
 * Choices for a gate that reads the findings of ECR's basic scanning.
 */
export interface BasicScanConfigOptions {
  /**
   * Asks ECR for a scan when the image has none.
   *
   * Switch it off where every image is scanned on push anyway.
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
