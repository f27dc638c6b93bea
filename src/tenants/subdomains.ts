import { AppError } from "../errors.ts";

/** One label of a host name: RFC 1035 §2.3.1, and no `--` in third place (RFC 5891: punycode). */
const LABEL = /^[a-z0-9](?!.-{2})([a-z0-9-]{1,61})[a-z0-9]$/;

/**
 * Subdomains that are or may become the product's own, that mail and web standards give a meaning
 * to, or that would let a tenant pose as the operator.
 */
const RESERVED = new Set(
  `about abuse access account accounts admin administrator api app apps assets auth autoconfig
  autodiscover billing blog bounce broadcasthost cdn console contact dashboard db demo-admin dev
  developer developers dns docs download email files ftp git graphql health healthz help host
  hostmaster http https id imap info internal isatap issuer jobs legal localdomain localhost log
  login logout mail mailer-daemon media metrics monitor mx news noc no-reply noreply ns ns1 ns2 ns3
  oauth openid operator ops ouvira owa payment payments platform pop pop3 postmaster privacy proxy
  public redoc register registry root sandbox security server signin signup smtp ssl sso stage
  staging static status store sub support swagger sys sysadmin system test testing tls tenant
  tenants terms token update upload usenet uucp vpn webmail webmaster wpad www www1 www2`.split(
    /\s+/,
  ),
);

/**
 * A subdomain as it is stored: lower case.
 *
 * @throws AppError `validation_error` when it is malformed or reserved
 */
export function parseSubdomain(text: string): string {
  const subdomain = text.trim().toLowerCase();
  if (!LABEL.test(subdomain)) {
    throw refusal(
      "A subdomain has 3 to 63 letters, digits and dashes, and begins and ends with a letter or digit.",
    );
  }
  if (RESERVED.has(subdomain)) throw refusal(`The subdomain "${subdomain}" is reserved.`);
  return subdomain;
}

function refusal(sentence: string): AppError {
  return new AppError("validation_error", sentence, { errors: { subdomain: [sentence] } });
}
