/**
 * A certificate for `localhost` and 127.0.0.1 that signs itself, good for a hundred years, and its key:
 * for servers of tests alone. Made with
 * `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1`.
 */
export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUIBfVtf7rxI7Q0p/OYE+IVRriV6YwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDAwMTI0M1oYDzIxMjYxMDMx
MDAxMjQzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAR0cneR6F+zDLnB0/6eMUlzArdd6Dqp0pj2QP515Mw9Ngij+Z5MsY9K
Mp01LgDy+75Yp2qsE5OwMUa+KqOhV+/0o28wbTAdBgNVHQ4EFgQUn2dW4ixG6pei
FZTju8aORlp25f4wHwYDVR0jBBgwFoAUn2dW4ixG6peiFZTju8aORlp25f4wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhALzkzDQa4C81PDmOpnQWzdtTLZjdVkTgSlcoR7ZiIn7MAiEA
jFttmcG5enb6JmT5+SsFA/0b9TBNcFefiKg5L6LAt7o=
-----END CERTIFICATE-----
`;

export const CERTIFICATE_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/vFp8Hbcr9wlUqwv
WjBTaPJaEfginbkUuKmorVeCa3ihRANCAAR0cneR6F+zDLnB0/6eMUlzArdd6Dqp
0pj2QP515Mw9Ngij+Z5MsY9KMp01LgDy+75Yp2qsE5OwMUa+KqOhV+/0
-----END PRIVATE KEY-----
`;
