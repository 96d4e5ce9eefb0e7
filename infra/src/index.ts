export * from './ecr-scan-pipeline';
export * from './ecr-scan-verifier';
export * from './on-unscanned';
export * from './policy-options';
export * from './scan-config';
export * from './severity';
