"""Second-order measurements: Hessian products, spectra, critical points, landscapes."""
