// swift-tools-version: 5.9
import PackageDescription

// `build-xcframework` writes Frameworks/ and Sources/RivuletFFI/.
let package = Package(
    name: "Rivulet",
    platforms: [.iOS(.v13), .macOS(.v11)],
    products: [.library(name: "Rivulet", targets: ["Rivulet"])],
    targets: [
        .binaryTarget(name: "rivulet_sdk_ffiFFI", path: "Frameworks/RivuletFFI.xcframework"),
        .target(name: "RivuletFFI", dependencies: ["rivulet_sdk_ffiFFI"]),
        .target(name: "Rivulet", dependencies: ["RivuletFFI"]),
    ]
)
