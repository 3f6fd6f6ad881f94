"""Reports that compare runs; reads run folders, imports no training code."""
