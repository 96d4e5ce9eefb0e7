import { SbomOutput } from './sbom-output';

/**
 * What a scan configuration comes down to, in the words of the gate.
 */
export interface ScanConfigBindOutput {
  /**
   * Whose findings decide: `BASIC` or `ENHANCED`; `SIGNATURE_ONLY` when none do.
   */
  readonly scanType: string;

  /**
   * Whether a scan of our own may be needed, which only basic scanning allows.
   */
  readonly startScan: boolean;

  /**
   * Where a bill of materials goes, which only enhanced scanning can make.
   *
   * @default - none is made
   */
  readonly sbomOutput?: SbomOutput;
}

/**
 * Choices for a gate that reads the findings of ECR's basic scanning.
 */
export interface BasicScanConfigOptions {
  /**
   * Starts a scan of an image that has none when a deployment waits for it.
   *
   * That takes a registry that is set to basic scanning, where a scan can be asked for; any other is refused. With `false`
   * no deployment starts a scan, and the findings of whichever scanner is in charge are taken. Either way the pipeline asks
   * for a scan of what is pushed to a repository that is scanned on demand only.
   *
   * @default true
   */
  readonly startScan?: boolean;
}

/**
 * Choices for a gate that reads the findings of Amazon Inspector.
 */
export interface EnhancedScanConfigOptions {
  /**
   * Has Inspector write a bill of materials of the image.
   *
   * @default - none is made
   */
  readonly sbomOutput?: SbomOutput;
}

/**
 * Choices for a gate that reads no findings; there are none yet.
 */
export interface SignatureOnlyConfigOptions {}

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
    return new FixedScanConfig({ scanType: 'BASIC', startScan: options.startScan ?? true });
  }

  /**
   * The findings of Amazon Inspector decide; the registry has to be set to enhanced scanning.
   *
   * Inspector scans by itself, on push or continuously: nobody can ask it for a scan, so there is no `startScan`.
   */
  public static enhanced(options: EnhancedScanConfigOptions = {}): ScanConfig {
    return new FixedScanConfig({ scanType: 'ENHANCED', startScan: false, sbomOutput: options.sbomOutput });
  }

  /**
   * No findings decide, only the signature that `signatureVerification` asks for.
   *
   * No scan is asked for, waited for or read. What decides about findings is refused beside it, or raises a warning where the
   * original took it.
   */
  public static signatureOnly(_options: SignatureOnlyConfigOptions = {}): ScanConfig {
    return new FixedScanConfig({ scanType: 'SIGNATURE_ONLY', startScan: false });
  }

  /**
   * Says what this configuration comes down to; called once, by the verifier.
   */
  public abstract bind(): ScanConfigBindOutput;
}

class FixedScanConfig extends ScanConfig {
  constructor(private readonly output: ScanConfigBindOutput) {
    super();
  }

  public override bind(): ScanConfigBindOutput {
    return this.output;
  }
}
