# Sourced by the scripts that install Debian trixie into a folder: ends them unless there is a mirror to install from.

# The mirror that this machine installs from, unless another is named.
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | sort -u | head -n 1)}
if [ -z "$mirror" ]; then
    echo "$0: apt has no source of Debian packages here: set DEBIAN_MIRROR to the address of a Debian mirror" >&2
    exit 1
fi

# use_trixie FOLDER TYPE ARCHITECTURE: makes apt install trixie, deb or deb-src, as if nothing were installed, and keep
# all of its files in FOLDER. Undo it with `unset APT_CONFIG`.
use_trixie() {
    mkdir -p "$1/lists/partial" "$1/archives/partial"
    echo "$2 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$1/sources"
    cat >"$1/conf" <<END
APT::Architecture "$3";
APT::Architectures "$3";
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::Cache "$1";
Dir::Etc::SourceList "$1/sources";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$1/lists";
Dir::State::Status "/dev/null";
END
    export APT_CONFIG="$1/conf"
    apt-get -qq update
}
