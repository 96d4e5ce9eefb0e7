export * from './ecr-scan-pipeline';
export * from './ecr-scan-verifier';
export * from './scan-config';
export * from './severity';
